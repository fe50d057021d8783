// The list of boxes beside the picture; one row can be reached with Tab, the others with arrows.

import { colorClass } from "./colors.js";

const ICONS = { drawn: "bi-person-fill", changed: "bi-pencil-fill", accepted: "bi-check-lg", rejected: "bi-x-lg" };

export class List {
  // on: {hover(key), choose(key)}
  constructor(root, texts, { classify, on, signal }) {
    Object.assign(this, { root, texts, classify, on, rows: new Map(), lit: null, chosen: null, current: null });
    root.replaceChildren();
    const keyOf = (event) => event.target.closest?.("li[data-box]")?.dataset.box ?? null;
    const listen = (type, handler) => root.addEventListener(type, handler, { signal });
    listen("pointerover", (event) => on.hover(keyOf(event)));
    listen("pointerleave", () => on.hover(null));
    listen("focusin", (event) => on.hover(keyOf(event)));
    listen("focusout", () => on.hover(null));
    listen("click", (event) => !event.target.closest("a") && on.choose(keyOf(event)));
    listen("keydown", (event) => this._key(event));
  }

  render(items) {
    const keys = new Set(items.map((item) => item.key));
    for (const [key, { row }] of this.rows) {
      if (keys.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    let place = this.root.firstChild;
    for (const item of items) {
      const row = this._update(item);
      if (row === place) place = place.nextSibling;
      else this.root.insertBefore(row, place);
    }
    this.keys = items.map((item) => item.key);
  }

  show(shown) {
    this.shown = shown;
    for (const [key, entry] of this.rows) {
      if (shown.has(key) === entry.shown) continue;
      entry.shown = !entry.shown;
      entry.row.classList.toggle("d-none", !entry.shown);
    }
    if (!shown.has(this.current)) this._reach(this.keys.find((key) => shown.has(key)) ?? null);
  }

  mark(name, key, scroll = false) {
    const entry = this.rows.get(key);
    if (this[name] !== key) {
      this.rows.get(this[name])?.row.classList.remove(`is-${name}`);
      entry?.row.classList.add(`is-${name}`);
      if (name === "chosen") {
        this.rows.get(this.chosen)?.row.removeAttribute("aria-current");
        entry?.row.setAttribute("aria-current", "true");
        if (key !== null) this._reach(key);
      }
      this[name] = key;
    }
    if (!scroll || !entry?.shown) return;
    this.target = entry.row; // measured once in the next frame, after everything has its place
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this._scrollTo(this.target);
    });
  }

  // Only the list scrolls, not the page.
  _scrollTo(row) {
    const [list, line] = [this.root.getBoundingClientRect(), row.getBoundingClientRect()];
    if (line.top < list.top) this.root.scrollTop -= list.top - line.top;
    else if (line.bottom > list.bottom) this.root.scrollTop += line.bottom - list.bottom;
  }

  _reach(key) {
    for (const [place, value] of [[this.current, -1], [key, 0]]) {
      const entry = this.rows.get(place);
      if (!entry) continue;
      entry.row.tabIndex = value;
      if (entry.link) entry.link.tabIndex = value;
    }
    this.current = key;
  }

  _key(event) {
    if (!["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key) || event.target.tagName !== "LI" || event.shiftKey || event.ctrlKey) return;
    const keys = this.keys.filter((key) => this.shown.has(key));
    const place = keys.indexOf(event.target.dataset.box);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: keys.length - 1 }[event.key];
    event.preventDefault();
    event.stopPropagation();
    if (keys[next] === undefined) return;
    this.on.choose(keys[next]);
    this.rows.get(keys[next]).row.focus();
  }

  _update(item) {
    let entry = this.rows.get(item.key);
    if (entry?.item === item) return entry.row;
    if (!entry) {
      entry = this._make(item);
      this.rows.set(item.key, entry);
    }
    entry.item = item;
    const { row, label, mark, meter, score } = entry;
    const verdict = item.annotation?.verdict;
    row.className = [colorClass(item.label), `is-${item.kind}`, this.lit === item.key && "is-lit", this.chosen === item.key && "is-chosen", !entry.shown && "d-none"].filter(Boolean).join(" ");
    Object.assign(row.dataset, { label: item.label, score: item.score ?? 1, verdict: verdict ?? "" });
    label.textContent = item.label;
    mark.className = `box-mark ${verdict ? `bi ${ICONS[verdict]}` : ""}`;
    mark.title = verdict ? this.texts[verdict] : "";
    entry.said.textContent = verdict ? ` ${this.texts[verdict]}` : "";
    meter.style.visibility = item.score === null ? "hidden" : ""; // its place stays
    meter.value = item.score ?? 0;
    score.textContent = item.score === null ? "" : `${Math.round(100 * item.score)} %`;
    this._link(entry, item);
    return row;
  }

  _make(item) {
    const row = document.createElement("li");
    row.dataset.box = item.key;
    row.tabIndex = -1;
    const [swatch, label, mark, said, score] = ["swatch", "box-label", "box-mark", "visually-hidden", "box-score"].map((name) => {
      const part = document.createElement("span");
      part.className = name;
      return part;
    });
    const meter = document.createElement("meter");
    meter.setAttribute("aria-hidden", "true");
    row.append(swatch, label, mark, said, meter, score);
    return { row, label, mark, said, meter, score, link: null, shown: true };
  }

  // Only what a model found and still stands for can be asked about by its number.
  _link(entry, item) {
    if (!item.detection || entry.link) return;
    const link = document.createElement("a");
    const address = new URL(this.classify, location.href);
    address.searchParams.set("box", item.detection.id);
    Object.assign(link, { className: "box-link", href: address.href, title: this.texts.classify, tabIndex: -1 });
    link.setAttribute("aria-label", this.texts.classify);
    const icon = document.createElement("i");
    icon.className = "bi bi-bar-chart-line";
    icon.setAttribute("aria-hidden", "true");
    link.append(icon);
    entry.link = link;
    entry.row.append(link);
  }
}
