// The chosen box in words and numbers, with what can be done to it.

import { colorClass } from "./colors.js";
import { area } from "./geometry.js";

export class Details {
  // quick: the same buttons under the picture, for small screens.
  constructor(root, quick, texts, [width, height]) {
    Object.assign(this, { root, quick, texts, whole: width * height });
    this.parts = Object.fromEntries([...root.querySelectorAll("[data-detail]")].map((part) => [part.dataset.detail, part]));
    this.number = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 1 });
  }

  show(item) {
    this.root.classList.toggle("is-empty", !item);
    this.root.querySelector("[data-detail-none]").hidden = Boolean(item);
    this.root.querySelector("[data-detail-box]").hidden = !item;
    this.quick.hidden = !item;
    if (!item) return;
    const { number, parts, texts } = this;
    const [x1, y1, x2, y2] = item.box;
    const pixels = area(item.box);
    parts.swatch.className = `swatch ${colorClass(item.label)}`;
    parts.label.textContent = item.label;
    parts.verdict.textContent = texts[item.annotation?.verdict ?? "model"];
    parts.author.textContent = item.annotation?.author ?? "";
    parts.size.textContent = `${number.format(x2 - x1)} × ${number.format(y2 - y1)} px`;
    parts.place.textContent = `${number.format(x1)}, ${number.format(y1)} px`;
    parts.area.textContent = `${number.format(pixels)} px² · ${number.format((100 * pixels) / this.whole)} %`;
    const found = item.annotation ? item.annotation.found : item;
    const told = found?.score !== null && found?.score !== undefined;
    parts.found.textContent = told ? `${found.label} ${Math.round(100 * found.score)} %` : "–";
    for (const [action, possible] of Object.entries(possibilities(item))) {
      for (const part of [this.root, this.quick]) {
        const button = part.querySelector(`[data-do="${action}"]`);
        if (button) button.hidden = !possible;
      }
    }
  }
}

function possibilities(item) {
  const verdict = item.annotation?.verdict;
  return {
    accept: !verdict || verdict === "rejected",
    reject: verdict !== "rejected" && verdict !== "drawn",
    remove: verdict === "drawn",
    forget: Boolean(verdict) && verdict !== "drawn",
  };
}
