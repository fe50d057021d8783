// The field for a box's label: what is typed is completed from labels that are known.

import { clamp } from "./geometry.js";
import { MAX_LABEL } from "./state.js";

const MOST = 7; // suggestions
const fold = (text) => text.normalize("NFKC").toLowerCase();

// Labels that begin with the text, then those with a word that does, then those that contain it.
export function completions(text, labels) {
  const typed = fold(text.trim());
  const rank = (label) => {
    const folded = fold(label);
    if (folded.startsWith(typed)) return 0;
    if (folded.includes(` ${typed}`)) return 1;
    return folded.includes(typed) ? 2 : 3;
  };
  return labels.map((label) => [rank(label), label]).filter(([place]) => place < 3).sort((a, b) => a[0] - b[0]).slice(0, MOST).map(([, label]) => label);
}

export class Relabel {
  // form: the field and its list; on: {chosen(label), closed()}
  constructor(form, { on, signal }) {
    Object.assign(this, { form, on, labels: [], active: -1 });
    this.input = form.querySelector("input");
    this.list = form.querySelector("[role=listbox]");
    this.input.maxLength = MAX_LABEL;
    const listen = (target, type, handler) => target.addEventListener(type, handler, { signal });
    listen(this.input, "input", () => this._suggest(this.input.value));
    listen(form, "keydown", (event) => this._key(event));
    listen(form, "submit", (event) => {
      event.preventDefault();
      this._take();
    });
    listen(this.list, "pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    listen(this.list, "click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this._take(option.textContent);
    });
    listen(form, "focusout", (event) => !form.contains(event.relatedTarget) && !form.hidden && this._leave());
  }

  get open() {
    return !this.form.hidden;
  }

  // corners: of the box in pixels of the stage, whose size is given too.
  show(label, labels, corners, [wide, high]) {
    this.labels = labels;
    this.before = label;
    this.form.hidden = false;
    this.input.value = label;
    this._suggest("");
    const { offsetWidth, offsetHeight } = this.form;
    const below = corners[3] + 6 + offsetHeight <= high ? corners[3] + 6 : corners[1] - offsetHeight - 6;
    const x = clamp(corners[0], 4, wide - offsetWidth - 4);
    const y = clamp(below, 4, high - offsetHeight - 4);
    this.form.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
    this.input.focus({ preventScroll: true });
    this.input.select();
  }

  hide() {
    this.form.hidden = true;
  }

  _suggest(text) {
    const options = completions(text, this.labels).map((label, index) => {
      const option = document.createElement("li");
      option.setAttribute("role", "option");
      option.id = `label-option-${index}`;
      option.textContent = label;
      return option;
    });
    this.list.replaceChildren(...options);
    this.list.hidden = options.length === 0;
    this.input.setAttribute("aria-expanded", String(options.length > 0));
    // Typing completes: the first label that begins so is taken by Enter.
    this._activate(text.trim() && options.length && fold(options[0].textContent).startsWith(fold(text.trim())) ? 0 : -1);
  }

  _activate(index) {
    const options = [...this.list.children];
    this.active = index;
    options.forEach((option, place) => option.setAttribute("aria-selected", String(place === index)));
    if (index >= 0) this.input.setAttribute("aria-activedescendant", options[index].id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  _key(event) {
    event.stopPropagation();
    const count = this.list.children.length;
    if (event.key === "Escape") {
      event.preventDefault();
      this._close();
    } else if (["ArrowDown", "ArrowUp"].includes(event.key) && count) {
      event.preventDefault();
      this._activate((this.active + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
    } else if (event.key === "Tab" && this.active >= 0 && this.input.value !== this.list.children[this.active].textContent) {
      event.preventDefault();
      this.input.value = this.list.children[this.active].textContent;
      this._suggest(this.input.value);
    }
  }

  // Enter takes the marked label; Enter on a whole word that nothing completes takes the word.
  _take(label = null) {
    const typed = this.input.value.trim().replace(/\s+/g, " ");
    const marked = this.active >= 0 ? this.list.children[this.active].textContent : null;
    const known = this.labels.find((other) => fold(other) === fold(typed));
    const taken = label ?? (known && this.active <= 0 ? known : marked) ?? typed;
    if (!taken) return this.input.focus();
    this.hide();
    this.on.chosen(taken);
    this.on.closed();
  }

  // Somewhere else was clicked: what was typed counts, as everywhere.
  _leave() {
    const typed = this.input.value.trim();
    this.hide();
    if (typed && typed !== this.before) this.on.chosen(typed.replace(/\s+/g, " "));
  }

  _close() {
    this.hide();
    this.on.closed();
  }
}
