// Labels of one size over the picture. A label never covers another one, nor a whole other box.

const HEIGHT = 20; // pixels of the screen
const PADDING = 12; // of the text, both sides together
const ICON = 16;
const GAP = 2;
const FONT = "600 12px system-ui, sans-serif";

const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
const covers = (a, b) => a[0] <= b[0] && a[1] <= b[1] && a[2] >= b[2] && a[3] >= b[3];

// Where the labels of boxes go: [[x1, y1, x2, y2] or null, …], null where no place is left.
// boxes: corners in pixels of the stage, the most important first; widths: of their labels.
export function layout(boxes, widths, [wide, high], most = Infinity) {
  const small = boxes.filter((box) => box[3] - box[1] <= HEIGHT);
  const placed = [];
  return boxes.map((box, index) => {
    if (placed.length >= most) return null;
    for (const place of candidates(box, widths[index])) {
      if (place[0] < 0 || place[1] < 0 || place[2] > wide || place[3] > high) continue;
      if (placed.some((other) => meets(place, other))) continue;
      if (small.some((other) => other !== box && covers(place, other))) continue;
      placed.push(place);
      return place;
    }
    return null;
  });
}

// Above, below, inside of the corners: the first one that is free is taken.
function candidates([x1, y1, x2, y2], wide) {
  const at = (x, y) => [x, y, x + wide, y + HEIGHT];
  const inside = x2 - x1 >= wide && y2 - y1 >= HEIGHT;
  const [above, below, right] = [y1 - HEIGHT - GAP, y2 + GAP, x2 - wide];
  const outer = [at(x1, above), at(right, above), at(x1, below), at(right, below)];
  if (!inside) return outer;
  return [outer[0], at(x1 + GAP, y1 + GAP), outer[1], at(right - GAP, y1 + GAP), outer[2], at(x1 + GAP, y2 - HEIGHT - GAP), outer[3], at(right - GAP, y2 - HEIGHT - GAP)];
}

// A place for one label whatever else is there: the box that somebody looks at has its name.
function anyPlace(box, width, [wide, high]) {
  const [x, y] = candidates(box, width)[0];
  const left = Math.min(Math.max(x, 0), Math.max(0, wide - width));
  const top = y >= 0 ? y : Math.min(Math.max(box[1] + GAP, 0), high - HEIGHT);
  return [left, top, left + width, top + HEIGHT];
}

const ICONS = { person: "bi-person-fill", accepted: "bi-check-lg", rejected: "bi-x-lg" };

export class Labels {
  constructor(stage) {
    this.root = document.createElement("div");
    this.root.className = "labels";
    this.root.setAttribute("aria-hidden", "true");
    stage.append(this.root);
    this.pool = [];
    this.widths = new Map();
    this.pen = document.createElement("canvas").getContext("2d");
    this.pen.font = FONT;
    this.places = new Map(); // key -> where its label is
    this.extra = this._make(); // of the box that has the pointer
    this.extra.element.hidden = true;
  }

  width(text, icon) {
    if (!this.widths.has(text)) this.widths.set(text, text ? Math.ceil(this.pen.measureText(text).width) + PADDING : 4);
    return this.widths.get(text) + (icon ? ICON : 0);
  }

  // entries: [{key, text, icon, color, box, forced}], the most important first; box on the screen.
  draw(entries, size) {
    const seen = entries.filter(({ box }) => box[2] > 0 && box[3] > 0 && box[0] < size[0] && box[1] < size[1]);
    const widths = seen.map((entry) => this.width(entry.text, entry.icon));
    const places = layout(seen.map((entry) => entry.box), widths, size);
    this.places = new Map();
    let used = 0;
    seen.forEach((entry, index) => {
      const place = places[index] ?? (entry.forced ? anyPlace(entry.box, widths[index], size) : null);
      if (!place) return;
      this.places.set(entry.key, place);
      this._show((this.pool[used] ??= this._make()), entry, place);
      used += 1;
    });
    for (let index = used; index < this.pool.length; index += 1) {
      const { element } = this.pool[index];
      if (!element.hidden) element.hidden = true;
    }
  }

  // The label of one more box, wherever it has its place or over the others; null: of none. The
  // others stay as they are, so that moving the pointer costs next to nothing.
  light(entry, size) {
    this.extra.element.hidden = !entry;
    if (!entry) return;
    const place = this.places.get(entry.key) ?? anyPlace(entry.box, this.width(entry.text, entry.icon), size);
    this._show(this.extra, entry, place);
  }

  _show(label, entry, place) {
    const { element, icon, text } = label;
    if (element.hidden) element.hidden = false;
    const at = `translate(${Math.round(place[0])}px, ${Math.round(place[1])}px)`;
    if (label.at !== at) element.style.transform = label.at = at;
    const look = `${entry.color} ${entry.icon ?? ""} ${entry.forced}`;
    if (label.look !== look) {
      label.look = look;
      element.className = `label ${entry.color}${entry.forced ? " is-forced" : ""}`;
      icon.className = entry.icon ? `bi ${ICONS[entry.icon]}` : "";
    }
    if (label.words !== entry.text) {
      label.words = entry.text;
      text.textContent = entry.text;
    }
  }

  _make() {
    const element = document.createElement("span");
    const icon = document.createElement("i");
    const text = document.createElement("span");
    element.append(icon, text);
    this.root.append(element);
    return { element, icon, text };
  }
}
