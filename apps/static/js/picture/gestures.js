// Mouse, pen and fingers on the picture: zoom, pan, choose, draw, move, resize.

import { contains, moved, resized, tidy } from "./geometry.js";

const SLOP = 5; // pixels that a tap may wander
const DOUBLE = 350; // milliseconds between the two taps of a double one
const WHEEL = 0.0018; // of the zoom for each pixel of the wheel
const LINE = 33; // pixels of a wheel that counts lines

export class Gestures {
  // on: {hover(key), tap(key), drawn(box)}
  constructor({ stage, viewport, boxes, editor, on, signal }) {
    Object.assign(this, { stage, viewport, boxes, editor, on });
    this.pointers = new Map(); // id -> [x, y] in the stage
    this.drag = null;
    this.lastTap = null;
    this.holdingSpace = false;
    this.usedSpace = false;
    const listen = (type, handler) => stage.addEventListener(type, handler, { signal, passive: false });
    listen("pointerdown", (event) => this.down(event));
    listen("pointermove", (event) => this.move(event));
    listen("pointerup", (event) => this.up(event));
    listen("pointercancel", (event) => this.cancel(event));
    listen("pointerleave", (event) => event.pointerType === "mouse" && this._hover(null));
    listen("wheel", (event) => this.wheel(event));
    listen("dragstart", (event) => event.preventDefault());
  }

  // At the end of the zoom the wheel moves the page on.
  wheel(event) {
    if (event.target.closest("[data-relabel]")) return;
    const pixels = event.deltaY * (event.deltaMode === 1 ? LINE : event.deltaMode === 2 ? this.viewport.high : 1);
    const before = this.viewport.scale;
    this.viewport.zoomAt(Math.exp(-pixels * WHEEL * (event.ctrlKey ? 5 : 1)), ...this.viewport.toStage(event.clientX, event.clientY));
    if (before !== this.viewport.scale || event.ctrlKey) event.preventDefault();
  }

  down(event) {
    if (event.target.closest("[data-relabel]") || event.button > 1) return;
    if (event.button === 1) event.preventDefault(); // no scrolling by itself
    const point = this.viewport.toStage(event.clientX, event.clientY);
    this.pointers.set(event.pointerId, point);
    this.stage.setPointerCapture(event.pointerId);
    this.stage.focus({ preventScroll: true });
    if (this.pointers.size === 2) return this._startPinch();
    if (this.pointers.size > 2) return;
    this.drag = { ...this._purpose(event, point), start: point, last: point, began: false };
  }

  _purpose(event, point) {
    const handle = event.target.closest("[data-handle]")?.dataset.handle;
    const { chosen, locked } = this.editor;
    if (event.button === 1 || this.holdingSpace) return { kind: "pan" };
    if (this.editor.drawing && !locked) return { kind: "draw" };
    if (handle && chosen && !locked) return { kind: "resize", handle, item: chosen };
    // A chosen box is dragged even where a smaller one lies on it; a tap there chooses that one.
    if (chosen && !locked && contains(chosen.box, ...this.viewport.toPicture(...point))) return { kind: "move", item: chosen };
    return { kind: "pan" };
  }

  move(event) {
    const point = this.viewport.toStage(event.clientX, event.clientY);
    if (!this.pointers.has(event.pointerId)) return event.pointerType === "mouse" && this._hoverAt(point);
    this.pointers.set(event.pointerId, point);
    if (this.pinch) return this._pinch();
    const { drag } = this;
    if (!drag) return;
    if (!drag.began && Math.hypot(point[0] - drag.start[0], point[1] - drag.start[1]) < SLOP) return;
    drag.began = true;
    drag.point = point;
    this.stage.classList.toggle("is-panning", drag.kind === "pan");
    this.frame ||= requestAnimationFrame(() => this._follow());
  }

  _follow() {
    this.frame = 0;
    const { drag, viewport } = this;
    if (!drag?.point) return;
    if (drag.kind === "pan") {
      viewport.pan(drag.last[0] - drag.point[0], drag.last[1] - drag.point[1]);
      if (this.holdingSpace) this.usedSpace = true;
    } else if (drag.kind === "draw") this.boxes.showDraft(this._drawn(drag));
    else this._preview(drag);
    drag.last = drag.point;
  }

  _drawn({ start, point }) {
    return tidy([...this.viewport.toPicture(...start), ...this.viewport.toPicture(...point)], ...this.editor.picture.size);
  }

  _box({ kind, item, handle, start, point }) {
    const [dx, dy] = [(point[0] - start[0]) / this.viewport.scale, (point[1] - start[1]) / this.viewport.scale];
    const { size } = this.editor.picture;
    if (kind === "move") return moved(item.box, dx, dy, ...size);
    const x = (handle.includes("w") ? item.box[0] : item.box[2]) + dx;
    const y = (handle.includes("n") ? item.box[1] : item.box[3]) + dy;
    return resized(item.box, handle, x, y, ...size);
  }

  _preview(drag) {
    const box = this._box(drag);
    this.boxes.preview(drag.item.key, box);
    this.boxes.placeHandles(this.viewport.toScreen(box));
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pinch) {
      if (this.pointers.size < 2) this.pinch = null;
      return;
    }
    const { drag } = this;
    this.drag = null;
    this.stage.classList.remove("is-panning");
    if (!drag) return;
    if (!drag.began) return this._tap(event, drag);
    drag.point = this.viewport.toStage(event.clientX, event.clientY);
    if (drag.kind === "draw") {
      this.boxes.showDraft(null);
      this.on.drawn(this._drawn(drag));
    } else if (drag.kind !== "pan") {
      const box = this._box(drag);
      if (!this.editor.place(drag.item.key, box)) this._restore(drag);
    } else this._follow();
  }

  _tap(event, drag) {
    const point = drag.start;
    const last = this.lastTap;
    const double = !event.altKey && last && event.timeStamp - last.at < DOUBLE && Math.hypot(point[0] - last.point[0], point[1] - last.point[1]) < 4 * SLOP;
    this.lastTap = double ? null : { at: event.timeStamp, point };
    if (event.button === 1 || this.editor.drawing) return;
    if (double) return this.doubled(point);
    const behind = event.altKey ? this.editor.chosenKey : null;
    this.on.tap(this.boxes.at(...this.viewport.toPicture(...point), behind));
  }

  doubled(point) {
    const { viewport } = this;
    if (!viewport.fitted) viewport.fit();
    else viewport.zoomAt(Math.max(viewport.oneToOne / viewport.scale, 2), ...point);
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size < 2) this.pinch = null;
    this.abandon();
  }

  // What was being dragged is where it was.
  abandon() {
    const { drag } = this;
    this.drag = null;
    this.stage.classList.remove("is-panning");
    this.boxes.showDraft(null);
    if (drag?.item) this._restore(drag);
    return Boolean(drag);
  }

  _restore({ item }) {
    this.boxes.preview(item.key, item.box);
    this.viewport.draw();
  }

  // -- two fingers -------------------------------------------------------------------------------------

  _startPinch() {
    this.abandon();
    this.lastTap = null;
    const { distance, middle } = this._fingers();
    this.pinch = { distance, scale: this.viewport.scale, under: this.viewport.toPicture(...middle) };
  }

  _fingers() {
    const [a, b] = [...this.pointers.values()];
    return { distance: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
  }

  // What was between the fingers at first stays there, whatever the steps in between were.
  _pinch() {
    const { distance, middle } = this._fingers();
    this.viewport.place((this.pinch.scale * distance) / this.pinch.distance, this.pinch.under, middle);
  }

  // -- hovering: once for each frame --------------------------------------------------------------------

  _hoverAt(point) {
    this.hovered = point;
    this.hoverFrame ||= requestAnimationFrame(() => {
      this.hoverFrame = 0;
      if (this.hovered) this.on.hover(this.boxes.at(...this.viewport.toPicture(...this.hovered)));
    });
  }

  _hover(key) {
    this.hovered = null;
    this.on.hover(key);
  }
}
