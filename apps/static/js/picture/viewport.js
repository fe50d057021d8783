// Which part of the picture is seen: the picture moves behind the stage, the boxes are drawn anew.

import { clamp } from "./geometry.js";

const MOST = 40; // screen pixels for one pixel of the picture
const STEP = 1.25; // of a key or a button
const BLOCKY = 3; // from here on single pixels are shown as squares

export class Viewport {
  // onChange is called once before the next frame after whatever changed.
  constructor(stage, [width, height], onChange) {
    Object.assign(this, { stage, width, height, onChange, scale: 1, x: 0, y: 0, fitted: true, frame: 0 });
    this.svg = stage.querySelector("[data-boxes]");
    Object.assign(this.image.style, { width: `${width}px`, height: `${height}px` });
    this.measure();
  }

  get image() {
    return this.stage.querySelector("img");
  }

  // The stage has another size: what was in the middle stays there, and what was fitted stays so.
  measure() {
    const { clientWidth, clientHeight } = this.stage;
    const middle = [this.x + (this.wide ?? 0) / 2 / this.scale, this.y + (this.high ?? 0) / 2 / this.scale];
    [this.wide, this.high] = [Math.max(1, clientWidth), Math.max(1, clientHeight)];
    if (this.fitted) this.fit();
    else this.show(this.scale, middle[0] - this.wide / 2 / this.scale, middle[1] - this.high / 2 / this.scale);
  }

  get fitScale() {
    return Math.min(this.wide / this.width, this.high / this.height);
  }

  get oneToOne() {
    return 1 / (window.devicePixelRatio || 1);
  }

  show(scale, x, y) {
    this.scale = this.possible(scale);
    this.x = within(x, this.wide / this.scale, this.width);
    this.y = within(y, this.high / this.scale, this.height);
    this.fitted = Math.abs(this.scale / this.fitScale - 1) < 1e-6;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { image, svg, scale, x, y } = this;
    image.style.transform = `translate(${-x * scale}px, ${-y * scale}px) scale(${scale})`;
    image.classList.toggle("is-blocky", scale * (window.devicePixelRatio || 1) >= BLOCKY);
    svg.setAttribute("viewBox", `${x} ${y} ${this.wide / scale} ${this.high / scale}`);
    this.onChange();
  }

  fit() {
    this.show(this.fitScale, 0, 0);
  }

  // Zoom so that the point of the picture under (px, py), pixels of the stage, stays there.
  zoomAt(factor, px = this.wide / 2, py = this.high / 2) {
    this.place(this.scale * factor, this.toPicture(px, py), [px, py]);
  }

  // A point of the picture at a place of the stage, as far as there is picture around it.
  place(wanted, [x, y], [px, py]) {
    const scale = this.possible(wanted);
    this.show(scale, x - px / scale, y - py / scale);
  }

  possible(scale) {
    return clamp(scale, Math.min(this.fitScale, this.oneToOne), Math.max(MOST, this.fitScale));
  }

  zoomIn() {
    this.zoomAt(STEP);
  }

  zoomOut() {
    this.zoomAt(1 / STEP);
  }

  actualSize(px, py) {
    this.zoomAt(this.oneToOne / this.scale, px, py);
  }

  // By pixels of the screen; false where there is nothing more to see in that direction.
  pan(dx, dy) {
    const [x, y] = [this.x, this.y];
    this.show(this.scale, x + dx / this.scale, y + dy / this.scale);
    return this.x !== x || this.y !== y;
  }

  // Bring a box into view, if it is not.
  reveal([x1, y1, x2, y2]) {
    const [right, bottom] = [this.x + this.wide / this.scale, this.y + this.high / this.scale];
    if (x1 < right && x2 > this.x && y1 < bottom && y2 > this.y) return;
    this.show(this.scale, (x1 + x2) / 2 - this.wide / 2 / this.scale, (y1 + y2) / 2 - this.high / 2 / this.scale);
  }

  toStage(clientX, clientY) {
    const frame = this.stage.getBoundingClientRect();
    return [clientX - frame.left - this.stage.clientLeft, clientY - frame.top - this.stage.clientTop];
  }

  toPicture(px, py) {
    return [this.x + px / this.scale, this.y + py / this.scale];
  }

  // Corners in pixels of the stage.
  toScreen([x1, y1, x2, y2]) {
    const { scale, x, y } = this;
    return [(x1 - x) * scale, (y1 - y) * scale, (x2 - x) * scale, (y2 - y) * scale];
  }
}

// A picture smaller than the stage is in its middle, a larger one fills it.
const within = (start, seen, whole) => (seen >= whole ? (whole - seen) / 2 : clamp(start, 0, whole - seen));
