// The boxes over the picture, as SVG in pixels of the picture, and the handles of the chosen one.

import { colorClass } from "./colors.js";
import { area, contains } from "./geometry.js";

const SVG = "http://www.w3.org/2000/svg";
const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const ROOM = 56; // pixels of the screen: a shorter side has handles at its ends alone
const ASIDE = 3; // pixels that handles stand outside

const make = (name, className) => {
  const element = document.createElementNS(SVG, name);
  element.setAttribute("class", className);
  return element;
};

function setCorners(rect, [x1, y1, x2, y2]) {
  rect.setAttribute("x", x1);
  rect.setAttribute("y", y1);
  rect.setAttribute("width", x2 - x1);
  rect.setAttribute("height", y2 - y1);
}

// A light edge below the line; a path, because a box has one rectangle.
const setHalo = (path, [x1, y1, x2, y2]) => path?.setAttribute("d", `M${x1} ${y1}H${x2}V${y2}H${x1}Z`);

export class Boxes {
  constructor(stage) {
    this.stage = stage;
    this.svg = stage.querySelector("[data-boxes]");
    this.svg.replaceChildren();
    this.shapes = new Map(); // key -> {g, rect, mask, item, shown}
    this.draft = make("rect", "draft d-none");
    this.handles = HANDLES.map((name) => {
      const handle = document.createElement("span");
      handle.className = `handle handle-${name}`;
      handle.dataset.handle = name;
      handle.hidden = true;
      stage.append(handle);
      return handle;
    });
    this.lit = null;
    this.chosen = null;
  }

  // The larger ones below, so that a small one on a large one can be pointed at.
  render(items) {
    const keys = new Set(items.map((item) => item.key));
    for (const [key, shape] of this.shapes) {
      if (keys.has(key)) continue;
      shape.g.remove();
      this.shapes.delete(key);
    }
    for (const item of items) this._update(item);
    const order = [...this.shapes.values()].sort((a, b) => area(b.item.box) - area(a.item.box) || (a.item.score ?? 1) - (b.item.score ?? 1));
    let place = this.svg.firstChild;
    for (const { g } of order) {
      if (g === place) place = place.nextSibling;
      else this.svg.insertBefore(g, place);
    }
    this.svg.append(this.draft);
    this.order = order.reverse();
  }

  _update(item) {
    let shape = this.shapes.get(item.key);
    if (shape?.item === item) return;
    if (!shape) {
      shape = { g: make("g", ""), rect: make("rect", "outline"), halo: null, mask: null, shown: true };
      shape.g.dataset.box = item.key;
      shape.g.append(shape.rect);
      this.shapes.set(item.key, shape);
    }
    shape.item = item;
    setCorners(shape.rect, item.box);
    setHalo(shape.halo, item.box);
    if (shape.path !== (item.mask ?? null)) {
      shape.mask?.remove();
      shape.mask = item.mask ? make("path", "mask") : null;
      shape.mask?.setAttribute("d", item.mask);
      if (shape.mask) shape.g.prepend(shape.mask);
      shape.path = item.mask ?? null;
    }
    Object.assign(shape.g.dataset, { label: item.label, score: item.score ?? 1, kind: item.kind });
    this._class(shape);
  }

  // Only what people touched has a halo: hundreds of boxes that nobody did are quicker without.
  _class(shape) {
    const { g, item, shown } = shape;
    if (!shape.halo && (item.kind !== "model" || this.chosen === item.key)) {
      shape.halo = make("path", "halo");
      shape.rect.before(shape.halo);
      setHalo(shape.halo, item.box);
    }
    const states = [this.lit === item.key && " is-lit", this.chosen === item.key && " is-chosen", !shown && " d-none"];
    g.setAttribute("class", `box is-${item.kind} ${colorClass(item.label)}${states.filter(Boolean).join("")}`);
  }

  // shown: the set of keys that are to be seen.
  show(shown) {
    for (const [key, shape] of this.shapes) {
      if (shown.has(key) === shape.shown) continue;
      shape.shown = !shape.shown;
      shape.g.classList.toggle("d-none", !shape.shown);
    }
  }

  mark(name, key) {
    if (this[name] === key) return;
    const changed = [this.shapes.get(this[name]), this.shapes.get(key)];
    this[name] = key;
    for (const shape of changed) if (shape) this._class(shape);
  }

  // The smallest box at a point of the picture; behind: the next one that lies under it.
  at(x, y, behind = null) {
    const found = this.order.filter((shape) => shape.shown && contains(shape.item.box, x, y)).map((shape) => shape.item.key);
    return found[behind === null ? 0 : (found.indexOf(behind) + 1) % found.length] ?? null;
  }

  // While a box is dragged it is only drawn elsewhere.
  preview(key, box) {
    const shape = this.shapes.get(key);
    if (!shape) return;
    setCorners(shape.rect, box);
    setHalo(shape.halo, box);
  }

  showDraft(box) {
    this.draft.classList.toggle("d-none", !box);
    if (box) setCorners(this.draft, box);
  }

  // corners: of the chosen box in pixels of the stage, or null.
  placeHandles(corners) {
    if (!corners) {
      for (const handle of this.handles) handle.hidden = true;
      return;
    }
    const [x1, y1, x2, y2] = [corners[0] - ASIDE, corners[1] - ASIDE, corners[2] + ASIDE, corners[3] + ASIDE];
    const [wide, high] = [x2 - x1 >= ROOM, y2 - y1 >= ROOM];
    this.handles.forEach((handle, index) => {
      const name = HANDLES[index];
      const x = name.includes("w") ? x1 : name.includes("e") ? x2 : (x1 + x2) / 2;
      const y = name.includes("n") ? y1 : name.includes("s") ? y2 : (y1 + y2) / 2;
      handle.hidden = ("ns".includes(name) && !wide) || ("ew".includes(name) && !high);
      handle.style.transform = `translate(${x}px, ${y}px)`;
    });
  }
}
