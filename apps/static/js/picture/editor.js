// What a person does to the boxes: each change is one step of history and is saved at once.

import { moved, resized } from "./geometry.js";
import { History } from "./history.js";
import { layerOf, PictureState, sameLayer } from "./state.js";

const BURST = 1000; // milliseconds between key presses that move one box and are one step
const DEFAULT_SHARE = 0.25; // of the shorter side: a box made with the keyboard

export class Editor {
  // on: {changed(), chosen(key), refused()}
  constructor(server, { saver, conflict, channel, on }) {
    Object.assign(this, { saver, conflict, channel, on, chosenKey: null, drawing: false });
    this.picture = new PictureState(server);
    this.base = layerOf(server); // what the server has
    this.history = new History(this.base);
    this.lastStep = null;
    this.refresh();
  }

  // What an earlier visit could not send is shown, and sent.
  restore() {
    const kept = this.saver.restore();
    if (!kept) return;
    this.history.push(Object.freeze({ reviewed: Boolean(kept.reviewed), annotations: Object.freeze(kept.annotations.map(Object.freeze)) }));
    this.refresh();
    this.saver.send();
  }

  get layer() {
    return this.history.present;
  }

  get locked() {
    return this.conflict.open;
  }

  get chosen() {
    return this.chosenKey === null ? null : this.item(this.chosenKey);
  }

  item(key) {
    return this.byKey.get(key) ?? null;
  }

  refresh() {
    this.items = this.picture.items(this.layer);
    this.byKey = new Map(this.items.map((item) => [item.key, item]));
    if (this.chosenKey !== null && !this.byKey.has(this.chosenKey)) this.chosenKey = null;
  }

  choose(key) {
    if (key !== null && !this.byKey.has(key)) return;
    this.chosenKey = key;
    this.on.chosen(key);
  }

  // -- one step ---------------------------------------------------------------------------------

  // step: what the step was about; the same one again within a moment continues it.
  commit(layer, { step = null, amend = false } = {}) {
    if (layer === this.layer) return false;
    if (this.locked) {
      this.on.refused();
      return false;
    }
    const now = Date.now();
    const continues = step !== null && this.lastStep?.step === step && now - this.lastStep.at < BURST;
    if (amend || continues) this.history.amend(layer);
    else this.history.push(layer);
    this.lastStep = step === null ? null : { step, at: now };
    this._changed();
    return true;
  }

  undo() {
    this._travel(() => this.history.undo());
  }

  redo() {
    this._travel(() => this.history.redo());
  }

  _travel(go) {
    if (this.locked) return this.on.refused();
    this.lastStep = null;
    if (go()) this._changed();
  }

  _changed() {
    this.refresh();
    this.on.changed();
    this.saver.save(this.layer);
  }

  // -- what can be done to the chosen box, or to another ------------------------------------------

  draw(label, box) {
    const [layer, ref] = this.picture.drawn(this.layer, label, box);
    if (!this.commit(layer)) return null;
    this.choose(ref);
    return ref;
  }

  drawInTheMiddle(label, [x, y]) {
    const half = (DEFAULT_SHARE * Math.min(...this.picture.size)) / 2;
    return this.draw(label, moved([x - half, y - half, x + half, y + half], 0, 0, ...this.picture.size));
  }

  accept(item = this.chosen) {
    return item ? this.commit(this.picture.accepted(this.layer, item)) : false;
  }

  acceptAll(items) {
    let { layer } = this;
    for (const item of items) if (item.kind === "model") layer = this.picture.accepted(layer, item);
    return this.commit(layer);
  }

  reject(item = this.chosen) {
    return item ? this.commit(this.picture.rejected(this.layer, item)) : false;
  }

  forget(item = this.chosen) {
    return item ? this.commit(this.picture.forgotten(this.layer, item)) : false;
  }

  relabel(key, label, amend) {
    const item = this.item(key);
    return item ? this.commit(this.picture.changed(this.layer, item, { label }), { amend }) : false;
  }

  place(key, box, step) {
    const item = this.item(key);
    return item ? this.commit(this.picture.changed(this.layer, item, { box }), { step }) : false;
  }

  move(dx, dy) {
    const item = this.chosen;
    if (item) this.place(item.key, moved(item.box, dx, dy, ...this.picture.size), `move ${item.key}`);
  }

  // The right and the lower side go by so many pixels.
  grow(dx, dy) {
    const item = this.chosen;
    if (!item) return;
    const [x1, y1, x2, y2] = item.box;
    const corner = [Math.max(x1 + 1, x2 + dx), Math.max(y1 + 1, y2 + dy)];
    this.place(item.key, resized(item.box, "se", ...corner, ...this.picture.size), `grow ${item.key}`);
  }

  // A copy a little aside, or in its place where the picture ends.
  duplicate(aside) {
    const item = this.chosen;
    return item ? this.draw(item.label, moved(item.box, aside, aside, ...this.picture.size)) : null;
  }

  review(value = true) {
    this.commit(this.picture.reviewed(this.layer, value));
  }

  // -- answers of the server --------------------------------------------------------------------------

  // Saved: its words about boxes are the base now. What it made of mine (clipped corners, authors)
  // replaces mine only where I have not gone on meanwhile.
  saved(server, last) {
    this.picture.adopt(server);
    this.base = layerOf(server);
    if (last) this.history.present = this.base;
    this.refresh();
    this.on.changed();
    this.channel?.postMessage({ version: server.version });
  }

  // The server has another version than the one that I changed.
  conflicted(server) {
    const theirs = layerOf(server);
    const mine = this.layer;
    if (sameLayer(theirs, mine)) {
      this.saver.forget(server.version);
      this.saved(server, true);
    } else if (sameLayer(theirs, this.base)) { // a model looked again: nobody's word was changed
      this.picture.adopt(server);
      this.refresh();
      this.on.changed();
      this.saver.overwrite(server.version, mine);
    } else this.conflict.ask(mine, theirs, (choice) => (choice === "mine" ? this._keep(server) : this.take(server)));
  }

  _keep(server) {
    this.picture.adopt(server);
    this.base = layerOf(server);
    this.refresh();
    this.on.changed();
    this.saver.overwrite(server.version, this.layer);
  }

  take(server) {
    this.picture.adopt(server);
    this.base = layerOf(server);
    this.history.reset(this.base);
    this.saver.forget(server.version);
    this.refresh();
    this.on.changed();
  }
}
