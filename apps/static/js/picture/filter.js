// Which boxes are seen: confidence, overlap, classes, and whether rejected ones are.

import { colorClass } from "./colors.js";
import { Suppression } from "./geometry.js";

const HOLD = 500; // milliseconds of a long press: only this class
const STEP = 0.05; // of a key

export class Filter {
  // onChange is called once before the next frame.
  constructor(root, texts, { threshold, onChange, signal }) {
    Object.assign(this, { root, texts, threshold, onChange, limit: 1, hidden: new Set(), rejected: false, blank: false });
    this.slider = root.querySelector("[data-threshold]");
    this.overlap = root.querySelector("[data-overlap]");
    this.chips = root.querySelector("[data-label-counts]");
    this.pool = new Map(); // label -> {chip, count}
    this.slider.addEventListener("input", () => this.set({ threshold: Number(this.slider.value) }), { signal });
    this.overlap.addEventListener("input", () => this.set({ limit: Number(this.overlap.value) }), { signal });
    root.querySelector("[data-threshold-form]").addEventListener("submit", (event) => event.preventDefault(), { signal });
    root.querySelector("[data-rejected]").addEventListener("change", (event) => this.set({ rejected: event.target.checked }), { signal });
    this._listen(signal);
    this.chips.replaceChildren();
  }

  set(values) {
    Object.assign(this, values);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.onChange();
    });
  }

  step(name, direction) {
    const field = name === "limit" ? this.overlap : this.slider;
    field.value = Number(field.value) + direction * STEP;
    this.set({ [name]: Number(field.value) });
  }

  toggleRejected() {
    const box = this.root.querySelector("[data-rejected]");
    box.checked = !box.checked;
    this.set({ rejected: box.checked });
  }

  // -- classes -------------------------------------------------------------------------------------------

  toggle(label) {
    const hidden = new Set(this.hidden);
    if (!hidden.delete(label)) hidden.add(label);
    this.set({ hidden });
  }

  // Only this class; once more: all of them.
  only(label) {
    const others = [...this.pool.keys()].filter((other) => other !== label);
    const already = others.every((other) => this.hidden.has(other)) && !this.hidden.has(label);
    this.set({ hidden: new Set(already ? [] : others) });
  }

  all() {
    this.set({ hidden: new Set() });
  }

  _listen(signal) {
    let timer = null;
    let held = false;
    const chipOf = (event) => event.target.closest("[data-chip]")?.dataset.chip;
    const on = (type, handler) => this.chips.addEventListener(type, handler, { signal });
    on("pointerdown", (event) => {
      const label = chipOf(event);
      held = false;
      clearTimeout(timer);
      if (label === undefined) return;
      timer = setTimeout(() => {
        held = true;
        this.only(label);
      }, HOLD);
    });
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) on(type, () => clearTimeout(timer));
    on("contextmenu", (event) => held && event.preventDefault());
    on("click", (event) => {
      const label = chipOf(event);
      if (label === undefined || held) return;
      if (event.altKey) this.only(label);
      else this.toggle(label);
    });
    on("keydown", (event) => {
      if (chipOf(event) === undefined || event.code !== "KeyO" || event.ctrlKey || event.metaKey) return;
      event.stopPropagation();
      this.only(chipOf(event));
    });
  }

  // -- one pass --------------------------------------------------------------------------------------------

  update(items) {
    this.items = items.filter((item) => item.kind !== "rejected");
    this.suppression = new Suppression(this.items.map(({ label, box, score, certain }) => ({ label, box, certain, score: certain ? 2 : score })));
  }

  // Keys of what is seen of all items; counts and chips follow.
  apply(all) {
    const gone = this.suppression.at(this.limit);
    const shown = new Set();
    const counts = new Map(all.map((item) => [item.label, 0]));
    this.items.forEach((item, index) => {
      if (!item.certain && (item.score < this.threshold || gone.has(index))) return;
      counts.set(item.label, counts.get(item.label) + 1);
      if (!this.hidden.has(item.label)) shown.add(item.key);
    });
    if (this.rejected) for (const item of all) if (item.kind === "rejected" && !this.hidden.has(item.label)) shown.add(item.key);
    this._showChips(counts);
    this.root.querySelector("[data-overlap-output]").textContent = this.limit < 1 ? `${Math.round(100 * this.limit)} %` : this.texts.off;
    return this.blank ? new Set() : shown;
  }

  _showChips(counts) {
    const labels = [...counts.keys()].sort((a, b) => a.localeCompare(b));
    if (labels.length !== this.pool.size || labels.some((label) => !this.pool.has(label))) this._makeChips(labels);
    for (const [label, { chip, count }] of this.pool) {
      const pressed = String(!this.hidden.has(label));
      if (chip.getAttribute("aria-pressed") !== pressed) chip.setAttribute("aria-pressed", pressed);
      const text = String(counts.get(label));
      if (count.textContent !== text) count.textContent = text;
    }
  }

  _makeChips(labels) {
    const focused = document.activeElement?.dataset?.chip;
    this.pool = new Map(labels.map((label) => [label, this.pool.get(label) ?? this._makeChip(label)]));
    this.chips.replaceChildren(...[...this.pool.values()].map(({ chip }) => chip));
    if (focused !== undefined) this.pool.get(focused)?.chip.focus();
  }

  _makeChip(label) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = `chip chip-toggle ${colorClass(label)}`;
    chip.dataset.chip = label;
    chip.title = this.texts.chip;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const count = document.createElement("b");
    count.dataset.count = label;
    chip.append(swatch, `${label} `, count);
    return { chip, count };
  }
}
