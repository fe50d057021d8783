// The files of an account on their way to the server, the same in all of its open pages. One page
// sends (see lead.js); the others show what it tells, and tell it what people want.

import { SETTLED, countsOf, newItem } from "./items.js";
import { lead } from "./lead.js";
import { Sender } from "./sender.js";
import { openStore } from "./store.js";

const CHUNK = 12; // files written to the store at a time
const TELL_MS = 250; // between two messages about progress

export class Queue extends EventTarget {
  items = new Map();
  files = new Map(); // those that this page has in its hands
  progress = new Map(); // of what is being sent: 0 to 1
  pause = null; // why nothing is sent at present: { reason, message, until }
  #sender = null;
  #leads = false;
  #name;
  #channel = null;
  #telling = new Map();
  #writing = Promise.resolve();

  constructor(site) {
    super();
    this.site = site;
    this.#name = `sightbox-uploads-${site.account}`;
    if ("BroadcastChannel" in window) {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.addEventListener("message", (event) => this.#hear(event.data));
    }
  }

  // Take up what earlier pages left. What is finished and good is not shown again.
  async start() {
    this.store ??= await openStore(this.site.account);
    await this.#load();
    const items = [...this.items.values()];
    if (items.every((item) => item.state === "done" || item.state === "cancelled")) {
      this.items.clear();
      await this.store.remove(items.map((item) => item.id));
    } else this.#wantLead();
    this.#tell({ kind: "hello" });
    this.#changed();
  }

  async #load() {
    const kept = await this.store.all().catch(() => []);
    const fresh = kept.filter((item) => !this.items.has(item.id)).concat([...this.items.values()]);
    fresh.sort((a, b) => a.order - b.order);
    this.items = new Map(fresh.map((item) => [item.id, item]));
  }

  #wantLead() {
    if (this.#leads) return;
    this.#leads = true;
    lead(this.#name, async () => {
      this.store ??= await openStore(this.site.account); // a message may come before start() has it
      await this.#load();
      this.progress.clear();
      this.#tell({ kind: "leader" });
      this.#sender = new Sender(this);
      this.#sender.pump();
      this.#changed();
    });
  }

  // -- what people want -----------------------------------------------------------------------

  add(files) {
    const items = [...files].map((file) => {
      const item = newItem(file, this.site);
      if (item.state === "queued") this.files.set(item.id, file);
      this.items.set(item.id, item);
      return item;
    });
    const waiting = items.filter((item) => item.state === "queued");
    this.#wantLead(); // before others hear of it
    this.#tell({ kind: "items", items, files: waiting.map((item) => [item.id, this.files.get(item.id)]) });
    this.#writing = this.#writing.then(() => this.#keep(waiting));
    this.#changed();
    this.#sender?.pump();
    return items;
  }

  // Written beside the sending, some at a time; without room the rest stays in this page's hands.
  async #keep(items) {
    for (let start = 0; start < items.length; start += CHUNK) {
      const part = items.slice(start, start + CHUNK).filter((item) => !SETTLED.has(this.items.get(item.id)?.state ?? "done"));
      if (!part.length) continue;
      if (!(await this.store.add(part.map((item) => [this.items.get(item.id), this.files.get(item.id)])))) return;
      for (const { id } of part) {
        const item = this.items.get(id);
        if (!item) this.store.remove([id]); // taken away meanwhile
        else {
          item.kept = true;
          if (SETTLED.has(item.state) || item.cut) this.store.put(item);
        }
      }
      this.#tell({ kind: "kept", ids: part.map((item) => item.id) });
    }
  }

  cancel = (ids) => this.#order("cancel", ids);
  retry = (ids) => this.#order("retry", ids);
  resume = () => this.#order("resume", []);

  cancelAll() {
    this.cancel(this.unfinished().map((item) => item.id));
  }

  retryAll() {
    this.retry([...this.items.values()].filter((item) => item.state === "failed" && this.canRetry(item)).map((item) => item.id));
  }

  clearFinished() {
    const ids = [...this.items.values()].filter((item) => SETTLED.has(item.state)).map((item) => item.id);
    this.#forget(ids);
    this.store.remove(ids);
    this.#tell({ kind: "remove", ids });
  }

  // When somebody logs out nothing of theirs stays in the browser.
  async clear() {
    const ids = [...this.items.keys()];
    for (const id of ids) this.#sender?.stop(id);
    this.#forget(ids);
    this.#tell({ kind: "remove", ids });
    await this.#writing;
    await this.store.clear();
  }

  #order(what, ids) {
    if (this.#sender) this.#obey(what, ids);
    else this.#tell({ kind: "order", what, ids });
  }

  #obey(what, ids) {
    const items = ids.map((id) => this.items.get(id)).filter(Boolean);
    if (what === "cancel") {
      for (const item of items.filter((item) => !SETTLED.has(item.state))) {
        this.update(item, { state: "cancelled", message: null });
        this.#sender.stop(item.id);
      }
      if (!this.unfinished().length) this.#sender.forget();
    } else if (what === "retry") {
      for (const item of items) this.update(item, { state: "queued", message: null, result: null, errors: 0 });
    } else this.#sender.resume();
    this.#sender.pump();
  }

  // -- what can be asked ----------------------------------------------------------------------

  unfinished() {
    return [...this.items.values()].filter((item) => !SETTLED.has(item.state));
  }

  // A file whose bytes neither this page nor the store has cannot be sent again.
  canRetry(item) {
    return item.state !== "done" && item.size > 0 && (item.kept || this.files.has(item.id));
  }

  // Whether this page is the one that is sending.
  get busy() {
    const waits = ["session", "quota"].includes(this.pause?.reason);
    return this.#sender !== null && this.unfinished().length > 0 && !waits;
  }

  get wouldLose() {
    return this.unfinished().some((item) => !item.kept && this.files.has(item.id));
  }

  counts() {
    return countsOf(this.items, this.progress);
  }

  async fileOf(item) {
    return this.files.get(item.id) ?? (item.kept ? this.store.file(item.id) : null);
  }

  // -- for the page that sends ----------------------------------------------------------------

  next(running) {
    for (const item of this.items.values()) {
      if (item.state === "queued" && !running.has(item.id)) return item;
    }
    return null;
  }

  update(item, changes) {
    Object.assign(item, changes);
    if (this.items.get(item.id) !== item) return; // taken away meanwhile
    this.progress.delete(item.id);
    this.#telling.delete(item.id);
    if (item.state === "done") this.files.delete(item.id);
    this.store.put(item);
    this.#tell({ kind: "items", items: [item] });
    this.#changed(item.state === "done" ? item : null);
  }

  setPause(pause) {
    this.pause = pause;
    this.#tell({ kind: "pause", pause });
    this.#changed();
  }

  setProgress(id, part) {
    this.progress.set(id, part);
    this.#changed();
    if (!this.#telling.size) {
      setTimeout(() => {
        this.#tell({ kind: "progress", list: [...this.#telling] });
        this.#telling.clear();
      }, TELL_MS);
    }
    this.#telling.set(id, part);
  }

  // -- other pages ----------------------------------------------------------------------------

  #tell(message) {
    this.#channel?.postMessage(message);
  }

  #hear(message) {
    this.#hearing[message.kind]?.(message);
    this.#changed();
  }

  #hearing = {
    items: ({ items, files = [] }) => {
      for (const [id, file] of files) this.files.set(id, file);
      for (const item of items) this.#take(item);
      this.#wantLead();
      this.#sender?.pump();
    },
    kept: ({ ids }) => {
      for (const id of ids) if (this.items.has(id)) this.items.get(id).kept = true;
    },
    remove: ({ ids }) => {
      for (const id of ids) this.#sender?.stop(id);
      this.#forget(ids);
    },
    progress: ({ list }) => {
      for (const [id, part] of list) if (!SETTLED.has(this.items.get(id)?.state)) this.progress.set(id, part);
    },
    pause: ({ pause }) => {
      this.pause = pause;
      const fresh = this.site.fresh;
      this.site.fresh = false;
      if (pause?.reason === "session" && fresh) this.resume(); // logged in here by now
    },
    order: ({ what, ids }) => this.#sender && this.#obey(what, ids),
    hello: () => this.#sender && this.#tell({ kind: "pause", pause: this.pause }),
    leader: () => {
      this.progress.clear();
      const mine = this.unfinished().filter((item) => !item.kept && this.files.has(item.id));
      if (mine.length) this.#tell({ kind: "items", items: mine, files: mine.map((item) => [item.id, this.files.get(item.id)]) });
    },
  };

  #take(item) {
    const known = this.items.get(item.id);
    const wasDone = known?.state === "done";
    if (known) Object.assign(known, item, { kept: known.kept || item.kept });
    else this.items.set(item.id, item);
    this.progress.delete(item.id);
    if (item.state !== "done") return;
    this.files.delete(item.id);
    if (!wasDone) this.#changed(item);
  }

  #forget(ids) {
    for (const id of ids) {
      this.items.delete(id);
      this.files.delete(id);
      this.progress.delete(id);
    }
    this.#changed();
  }

  #changed(done = null) {
    this.dispatchEvent(new CustomEvent("change", { detail: { done } }));
  }
}
