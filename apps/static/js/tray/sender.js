// Sends what a queue holds, three files at a time, and waits when there is a reason to.

import { askSession, send } from "./send.js";

const PARALLEL = 3;
const MOST_WAIT = 60; // seconds between two tries
const MOST_ERRORS = 6; // of one file, while the server answers otherwise

const readable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

export class Sender {
  #queue;
  #running = new Map(); // id -> how to stop it
  #timer = null;
  #tries = 0; // since something went well
  #asking = false;

  constructor(queue) {
    this.#queue = queue;
    window.addEventListener("online", () => this.#reason === "offline" && this.resume());
    for (const kind of ["focus", "pageshow"]) {
      window.addEventListener(kind, () => this.#reason === "session" && this.resume());
    }
  }

  get #reason() {
    return this.#queue.pause?.reason;
  }

  pump() {
    while (!this.#queue.pause && this.#running.size < PARALLEL) {
      const item = this.#queue.next(this.#running);
      if (!item) return;
      this.#running.set(item.id, () => {});
      this.#one(item).finally(() => {
        this.#running.delete(item.id);
        this.pump();
      });
    }
  }

  stop(id) {
    this.#running.get(id)?.();
  }

  // Nothing is left to wait for.
  forget() {
    clearTimeout(this.#timer);
    if (this.#queue.pause) this.#queue.setPause(null);
  }

  async #one(item) {
    const queue = this.#queue;
    const file = await queue.fileOf(item);
    if (item.state !== "queued") return; // cancelled meanwhile
    if (!file) {
      queue.update(item, { state: "failed", message: queue.site.texts.gone });
      return;
    }
    const before = item.cut;
    queue.update(item, { cut: true });
    const { answer, abort } = send(file, item, queue.site, (part) => queue.setProgress(item.id, part));
    this.#running.set(item.id, abort);
    queue.setProgress(item.id, 0);
    const outcome = await answer;
    if (item.state !== "queued") return;
    await this.#settle(item, file, outcome, before);
  }

  async #settle(item, file, outcome, before) {
    const queue = this.#queue;
    const { kind, reason, message, result } = outcome;
    if (kind === "done") {
      this.#tries = 0;
      // After a lost answer "already there" is what this very upload did.
      if (before && result.twin) result.twin = false;
      queue.update(item, { state: "done", message: null, result });
      return;
    }
    if (kind === "failed") {
      if (outcome.doubt && (await askSession(queue.site)) === "session") {
        queue.update(item, { cut: before });
        this.#wait("session");
      } else queue.update(item, { state: "failed", cut: before, message: message ?? null, result: result ?? null });
      return;
    }
    if (kind === "again") {
      await this.#again(item, before);
      return;
    }
    if (kind !== "pause") return; // stopped
    const reached = reason === "offline" || outcome.counts; // perhaps the server took it
    const errors = item.errors + (reached ? 1 : 0);
    queue.update(item, { cut: before || reason === "offline" || reason === "busy", errors });
    if (reason === "offline" && !(await readable(file))) {
      queue.files.delete(item.id);
      if (!item.kept) queue.update(item, { state: "failed", message: queue.site.texts.gone });
      return;
    }
    if (errors >= (outcome.counts ? 3 : MOST_ERRORS) && (await askSession(queue.site)) === "fine") {
      queue.update(item, { state: "failed", message: message ?? queue.site.texts.broken });
      return;
    }
    this.#wait(reason, message, outcome.seconds);
  }

  // The token of this page is no longer good: take a fresh one.
  async #again(item, before) {
    const queue = this.#queue;
    queue.update(item, { cut: before, errors: item.errors + 1 });
    const state = await askSession(queue.site);
    if (state === "fine" && item.errors > 2) queue.update(item, { state: "failed", message: queue.site.texts.broken });
    else if (state !== "fine") this.#wait(state);
  }

  #wait(reason, message = null, seconds = null) {
    if (this.#reason === reason) return; // several files came back at once
    clearTimeout(this.#timer);
    let until = null;
    if (reason === "offline" || reason === "busy") {
      const pause = seconds ?? Math.min(MOST_WAIT, 2 ** this.#tries) * (0.75 + Math.random() / 2);
      this.#tries += 1;
      until = Date.now() + 1000 * pause;
      this.#timer = setTimeout(() => this.resume(), 1000 * pause);
    }
    this.#queue.setPause({ reason, message, until });
  }

  // Go on, if the server can be reached and still knows who this is.
  async resume() {
    if (this.#asking || !this.#queue.pause) return;
    clearTimeout(this.#timer);
    this.#asking = true;
    const state = await askSession(this.#queue.site);
    this.#asking = false;
    this.#queue.pause &&= { ...this.#queue.pause, reason: null };
    if (state === "fine") {
      this.#queue.setPause(null);
      this.pump();
    } else this.#wait(state);
  }
}
