// One row of the tray for each file: made once, changed only where something changed.

import { SETTLED } from "./items.js";
import { drawThumb } from "./thumbs.js";

export class Rows {
  #rows = new Map(); // id -> { root, parts, shown }
  #seen;

  constructor(list, template, queue) {
    this.list = list;
    this.template = template;
    this.queue = queue;
    this.text = queue.site.texts;
    this.#seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.#arrived(entry)), { root: list });
    list.addEventListener("click", (event) => {
      const id = event.target.closest("[data-id]")?.dataset.id;
      if (event.target.closest("[data-cancel]")) queue.cancel([id]);
      else if (event.target.closest("[data-retry]")) queue.retry([id]);
    });
  }

  // The rows of exactly these items, in their order.
  show(items) {
    const wanted = new Set(items.map((item) => item.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      this.#seen.unobserve(row.root);
      this.#keepFocus(row.root);
      row.root.remove();
      this.#rows.delete(id);
    }
    let next = this.list.firstElementChild;
    for (const item of items) {
      const row = this.#rows.get(item.id) ?? this.#make(item);
      if (row.root === next) next = next.nextElementSibling;
      else this.list.insertBefore(row.root, next);
      this.#fill(row, item);
    }
  }

  #keepFocus(root) {
    if (root.contains(document.activeElement)) this.list.focus({ preventScroll: true });
  }

  #make(item) {
    const root = this.template.content.firstElementChild.cloneNode(true);
    root.dataset.id = item.id;
    const part = (name) => root.querySelector(`[data-${name}]`);
    const row = { root, thumb: part("thumb"), name: part("name"), bar: part("bar"), state: part("state"), cancel: part("cancel"), retry: part("retry"), shown: "" };
    row.name.textContent = row.name.title = item.name;
    row.bar.setAttribute("aria-label", item.name);
    for (const action of ["cancel", "retry"]) {
      const label = this.text[action].replace("%(name)s", item.name);
      row[action].setAttribute("aria-label", label);
      row[action].title = label;
    }
    this.#rows.set(item.id, row);
    this.#seen.observe(root);
    return row;
  }

  #arrived({ target, isIntersecting }) {
    if (!isIntersecting) return;
    this.#seen.unobserve(target);
    const item = this.queue.items.get(target.dataset.id);
    const row = this.#rows.get(target.dataset.id);
    if (!item || !row || row.thumb.querySelector("img")) return;
    if (item.state !== "done") drawThumb(row.thumb, () => this.queue.fileOf(item));
    else if (item.result?.thumbnail) this.#fromServer(row, item);
  }

  #fromServer(row, item) {
    const image = document.createElement("img");
    Object.assign(image, { src: item.result.thumbnail, alt: "", loading: "lazy", decoding: "async" });
    row.thumb.replaceChildren(image);
  }

  #fill(row, item) {
    const part = SETTLED.has(item.state) ? null : this.queue.progress.get(item.id);
    const sending = part != null;
    const shown = `${item.state} ${sending ? Math.round(part * 100) : ""} ${item.message ?? ""} ${this.queue.canRetry(item)}`;
    if (row.shown === shown) return;
    row.shown = shown;
    row.root.className = `tray-row is-${sending ? "sending" : item.state}`;
    row.bar.hidden = !sending;
    if (sending) row.bar.value = part;
    row.retry.hidden = !["failed", "cancelled"].includes(item.state) || !this.queue.canRetry(item);
    const focused = document.activeElement === row.cancel || document.activeElement === row.retry;
    row.cancel.hidden = SETTLED.has(item.state);
    if (focused && (document.activeElement.hidden)) this.#keepFocus(row.root);
    row.state.replaceChildren(...this.#says(item, part));
    if (item.state === "done" && item.result?.url) this.#link(row, item);
    if (item.state === "done" && item.result?.thumbnail && !row.thumb.querySelector("canvas, img")) this.#fromServer(row, item);
  }

  #link(row, item) {
    const link = document.createElement("a");
    link.href = item.result.url;
    link.textContent = item.name;
    row.name.replaceChildren(link);
  }

  #says(item, part) {
    const { text } = this;
    if (item.state === "queued") {
      if (part == null) return [text.waiting];
      return [part < 1 ? text.uploading.replace("%(percent)s", Math.round(part * 100)) : text.checking];
    }
    if (item.state === "cancelled") return [text.cancelled];
    if (item.result?.archive) return this.#ofArchive(item.result);
    if (item.state === "failed") return [item.message ?? ""];
    return [item.result?.twin ? text.twin : text.uploaded];
  }

  #ofArchive({ archive, refused }) {
    const words = this.text.archive.replace(/%\((\w+)\)s/g, (_, name) => archive[name]);
    if (!refused.length) return [words];
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = this.text.refused;
    const list = document.createElement("ul");
    for (const { file, message } of refused) {
      const line = document.createElement("li");
      line.textContent = `${file}: ${message}`;
      list.append(line);
    }
    if (archive.bad > refused.length) {
      const line = document.createElement("li");
      line.textContent = this.text.more.replace("%(count)s", archive.bad - refused.length);
      list.append(line);
    }
    details.append(summary, list);
    return [words, details];
  }
}
