// The tray: what all uploads do together, the rows, and the buttons for all of them.

import { Rows } from "./rows.js";

const MOST_ROWS = 250;
const COLLAPSED = "sightbox-tray-collapsed";
const narrow = () => matchMedia("(max-width: 575px)").matches;

export class View {
  #waiting = false;
  #was = null; // the announcement that was made last
  #touched = false; // somebody opened or closed it on this page
  #follow = true; // the list scrolls along with what is being sent, unless somebody reads it

  constructor(root, queue) {
    this.root = root;
    this.queue = queue;
    this.text = queue.site.texts;
    this.part = (name) => root.querySelector(`[data-tray-${name}]`);
    this.live = document.querySelector("[data-tray-live]");
    this.rows = new Rows(this.part("list"), this.part("row"), queue);
    this.collapse(sessionStorage.getItem(COLLAPSED) !== "0"); // open only for those who want it so
    const click = (name, action) => this.part(name).addEventListener("click", action);
    click("toggle", () => {
      this.#touched = true;
      this.collapse(!this.collapsed);
      sessionStorage.setItem(COLLAPSED, this.collapsed ? "1" : "0");
    });
    click("close", () => queue.clearFinished());
    click("clear", () => queue.clearFinished());
    click("cancel-all", () => queue.cancelAll());
    click("retry-all", () => queue.retryAll());
    click("resume", () => queue.resume());
    for (const kind of ["pointerdown", "wheel", "focusin"]) {
      this.part("list").addEventListener(kind, () => (this.#follow = false), { passive: true });
    }
    queue.addEventListener("change", () => this.#soon());
    new ResizeObserver(() => this.#space()).observe(root);
    this.#soon();
  }

  get collapsed() {
    return this.root.classList.contains("is-collapsed");
  }

  collapse(collapsed) {
    this.root.classList.toggle("is-collapsed", collapsed);
    this.part("toggle").setAttribute("aria-expanded", String(!collapsed));
    this.#soon();
  }

  // What earlier pages left has been read: only what goes on may cover the page.
  started() {
    if (!this.queue.unfinished().length) this.collapse(true);
  }

  // Something has been added: whoever did it wants to see it, where there is room.
  opened() {
    this.#follow = true;
    this.#touched = false;
    if (!narrow() && sessionStorage.getItem(COLLAPSED) !== "1") this.collapse(false);
  }

  note(words) {
    this.live.textContent = words;
    this.part("more").dataset.note = words;
    this.#soon();
  }

  #soon() {
    if (this.#waiting) return;
    this.#waiting = true;
    const paint = () => {
      this.#waiting = false;
      this.#paint();
    };
    if (document.hidden) setTimeout(paint, 200);
    else requestAnimationFrame(paint);
  }

  // How much of the page's end the closed tray would hide.
  #space() {
    const height = this.root.hidden ? 0 : Math.min(this.root.offsetHeight, 56) + (narrow() ? 0 : 16);
    document.documentElement.style.setProperty("--tray-space", `${height}px`);
    document.body.classList.toggle("has-tray", !this.root.hidden);
  }

  #paint() {
    const { queue } = this;
    const counts = queue.counts();
    this.root.hidden = counts.all === 0;
    this.#space();
    if (!counts.all) {
      delete this.part("more").dataset.note;
      this.rows.show([]);
      this.#was = null;
      return;
    }
    const finished = counts.left === 0;
    if (finished && !counts.failed && this.#was === "going") this.#retire();
    this.root.classList.toggle("is-finished", finished);
    this.root.classList.toggle("has-failed", counts.failed > 0);
    this.root.classList.toggle("is-paused", Boolean(queue.pause?.reason) && !finished);
    const all = counts.all - counts.cancelled;
    const words = (counts.failed ? this.text.withFailed : this.text.progress).replace(/%\((\w+)\)s/g, (_, name) => (name === "all" ? all : counts[name]));
    this.part("summary").textContent = words;
    const total = this.part("total");
    total.value = counts.part;
    total.hidden = finished;
    this.part("close").hidden = !finished;
    this.part("cancel-all").hidden = finished;
    this.part("retry-all").hidden = !counts.failed;
    this.part("clear").hidden = counts.all === counts.left;
    this.part("gallery").hidden = !finished || !counts.done || Boolean(document.querySelector("[data-gallery-view]"));
    this.#paintPause(finished ? null : queue.pause);
    this.#announce(finished, counts, all);
    if (!this.collapsed) this.#paintRows();
  }

  // All went well: a line is enough, which still opens.
  #retire() {
    const refused = [...this.queue.items.values()].some((item) => item.result?.archive?.bad);
    if (!refused && !this.#touched && !this.root.contains(document.activeElement)) this.collapse(true);
  }

  #paintPause(pause) {
    const box = this.part("pause");
    const reason = pause?.reason;
    box.hidden = !reason;
    if (!reason) return;
    const words = (reason === "quota" || reason === "busy") && pause.message ? pause.message : this.text[reason];
    this.part("reason").textContent = words;
    this.part("login").hidden = reason !== "session";
    if (this.#was !== reason && this.collapsed) this.collapse(false); // once: it may be closed again
  }

  #announce(finished, counts, all) {
    const reason = finished ? null : this.queue.pause?.reason;
    const now = finished ? "finished" : (reason ?? "going");
    if (now === this.#was) return;
    const first = this.#was === null;
    this.#was = now;
    if (finished && first) return; // left by an earlier page
    if (finished) this.live.textContent = this.text.finished.replace("%(done)s", counts.done).replace("%(all)s", all);
    else if (reason) this.live.textContent = this.part("reason").textContent;
    else this.live.textContent = this.part("summary").textContent;
  }

  // Of very many files those that matter: what is sent or failed, what comes next, what was last.
  #paintRows() {
    const items = [...this.queue.items.values()];
    const shown = items.length > MOST_ROWS ? this.#choose(items) : items;
    const more = this.part("more");
    const hidden = items.length - shown.length;
    const words = [hidden ? this.text.more.replace("%(count)s", hidden) : "", more.dataset.note ?? ""];
    more.textContent = words.filter(Boolean).join(" ");
    more.hidden = !more.textContent;
    this.rows.show(shown);
    const list = this.part("list");
    const active = this.#follow && list.querySelector(".is-sending");
    if (active) list.scrollTop = active.offsetTop - list.offsetTop - list.clientHeight / 3;
  }

  #choose(items) {
    const kept = new Set();
    const take = (which, most) => {
      for (const item of which) {
        if (kept.size >= most) return;
        kept.add(item);
      }
    };
    take(items.filter((item) => this.queue.progress.has(item.id)), MOST_ROWS);
    take(items.filter((item) => item.state === "failed"), MOST_ROWS - 100);
    take(items.filter((item) => item.state === "queued"), MOST_ROWS - 50);
    take(items.filter((item) => item.state === "done").reverse(), MOST_ROWS);
    take(items, MOST_ROWS);
    return items.filter((item) => kept.has(item));
  }
}
