// One picture on its page: puts the parts together and draws what they say.

import { actionsOf } from "./actions.js";
import { Boxes } from "./boxes.js";
import { colorClass } from "./colors.js";
import { Conflict } from "./conflict.js";
import { Details } from "./details.js";
import { Editor } from "./editor.js";
import { Filter } from "./filter.js";
import { Gestures } from "./gestures.js";
import { FullPicture, preload, showFacts } from "./image.js";
import { Keys } from "./keys.js";
import { Labels } from "./labels.js";
import { List } from "./list.js";
import { Relabel } from "./relabel.js";
import { Saver } from "./saving.js";
import { Viewport } from "./viewport.js";
import { showThreshold } from "../boxes.js";

const ROWS_EVERY = 150; // milliseconds
const LAST_LABEL = "sightbox:last-label";
const SIGNS = { saved: "bi-cloud-check", saving: "bi-arrow-repeat", offline: "bi-cloud-slash", refused: "bi-exclamation-triangle", login: "bi-exclamation-triangle", conflict: "bi-exclamation-triangle" };

export class PicturePage {
  constructor(root, texts) {
    Object.assign(this, { root, texts, ended: new AbortController(), listAt: 0, listTimer: 0 });
    const { signal } = this.ended;
    const read = (name) => JSON.parse(root.querySelector(`[data-${name}]`).textContent);
    const server = read("state");
    this.config = read("config");
    this.part = (name) => root.querySelector(`[data-${name}]`);
    this.stage = this.part("stage");
    root.classList.add("is-live");
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "group");
    this.stage.setAttribute("aria-label", texts.stage);
    for (const part of root.querySelectorAll("[data-live]")) part.hidden = false;

    this.boxes = new Boxes(this.stage);
    this.labels = new Labels(this.stage);
    this.size = [server.width, server.height];
    this._fitStage();
    this.viewport = new Viewport(this.stage, this.size, () => this._drawScreen());
    this.full = new FullPicture(this.viewport.image, this.config.original, this.size);
    this._makeEditor(server, signal);
    this.filter = new Filter(root, texts, { threshold: Number(this.part("threshold").value), signal, onChange: () => this._filtered() });
    const hover = (key) => this.light(key);
    this.list = new List(this.part("box-list"), texts, { classify: this.config.classify, signal, on: { hover, choose: (key) => this.editor.choose(key) } });
    this.details = new Details(this.part("details"), this.part("quick"), texts, this.size);
    this.relabel = new Relabel(this.part("relabel"), { signal, on: { chosen: (label) => this._named(label), closed: () => this.stage.focus({ preventScroll: true }) } });
    const on = { hover, tap: (key) => this.editor.choose(key), drawn: (box) => this.drawn(box) };
    this.gestures = new Gestures({ stage: this.stage, viewport: this.viewport, boxes: this.boxes, editor: this.editor, on, signal });
    this.actions = actionsOf(this);
    this.keys = new Keys(this.actions.keys, { stage: this.stage, toggle: document.querySelector("[data-single-keys]"), signal });
    this._listen(signal);
    this._changed();
    this.editor.restore();
    this._loadBeside();
  }

  end() {
    this.ended.abort();
    clearTimeout(this.listTimer);
    this.channel?.close();
  }

  _makeEditor(server, signal) {
    const on = {
      sign: (kind, message) => this._sign(kind, message),
      saved: (state, last) => this.editor.saved(state, last),
      conflict: (state) => {
        this.editor.conflicted(state);
        if (this.conflict.open) this._sign("conflict");
      },
    };
    const token = document.querySelector("meta[name=csrf-token]").content;
    this.saver = new Saver({ id: server.id, url: this.config.state, token, version: server.version, on });
    this.conflict = new Conflict(document.querySelector("[data-conflict]"), { signal });
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(`sightbox-picture-${server.id}`);
    this.editor = new Editor(server, {
      saver: this.saver, conflict: this.conflict, channel: this.channel,
      on: { changed: () => this._changed(), chosen: (key) => this._chosen(key), refused: () => this.conflict.show() },
    });
    this.channel?.addEventListener("message", ({ data }) => this._changedElsewhere(data.version), { signal });
    this.saver.start(signal);
  }

  // Another tab saved: this one follows, unless it has something to save itself.
  async _changedElsewhere(version) {
    if (version <= this.saver.version || this.saver.wanted) return;
    const response = await fetch(this.config.state, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!response?.ok || response.redirected) return;
    const server = await response.json();
    if (server.version > this.saver.version && !this.saver.wanted) this.editor.take(server);
  }

  _listen(signal) {
    const resized = new ResizeObserver(() => {
      this._fitStage();
      this.viewport.measure();
    });
    resized.observe(this.part("viewer"));
    signal.addEventListener("abort", () => resized.disconnect());
    const listen = (target, type, handler) => target.addEventListener(type, handler, { signal });
    listen(document, "fullscreenchange", () => {
      this._fitStage();
      this.viewport.measure();
      this.viewport.fit();
    });
    listen(this.root, "click", (event) => {
      const name = event.target.closest("[data-do]")?.dataset.do;
      if (name) this.actions.commands[name]?.(event);
    });
    listen(this.root, "change", (event) => {
      if (event.target.matches("[data-labels]")) this._drawScreen();
    });
    listen(this.stage, "keyup", (event) => event.code === "Space" && event.preventDefault());
    listen(window, "blur", () => (this.gestures.holdingSpace = false));
  }

  _loadBeside() {
    const { image } = this.viewport;
    preload(image, this.config.preload);
    showFacts(this.part("facts"), this.texts);
  }

  // As high as the picture needs, at most what the window has.
  _fitStage() {
    const viewer = this.part("viewer");
    if (document.fullscreenElement === viewer) {
      this.stage.style.height = "";
      return;
    }
    const most = Math.max(240, Math.min(window.innerHeight * 0.84, window.innerHeight - 130));
    this.stage.style.height = `${Math.round(Math.min(most, (this.stage.clientWidth * this.size[1]) / this.size[0]))}px`;
  }

  // -- drawing ---------------------------------------------------------------------------------------

  _changed() {
    const { items } = this.editor;
    this.boxes.render(items);
    this.list.render(items);
    this.filter.update(items);
    this._filtered(true);
    this.details.show(this.editor.chosen);
    const { reviewed } = this.editor.layer;
    this.part("reviewed").setAttribute("aria-pressed", String(reviewed));
    this.part("undo").disabled = !this.editor.history.past.length;
    this.part("redo").disabled = !this.editor.history.future.length;
    this.part("rejected-count").textContent = items.filter((item) => item.kind === "rejected").length;
  }

  _filtered(changed = false) {
    this.shown = this.filter.apply(this.editor.items);
    this.boxes.show(this.shown);
    this._showList(changed);
    this.part("none-shown").classList.toggle("d-none", this.shown.size > 0 || this.editor.items.length === 0);
    showThreshold(this.root, this.filter.threshold);
    const { chosen } = this.editor;
    if (chosen && !this.shown.has(chosen.key)) this.editor.choose(null);
    else this._drawScreen();
  }

  // While a slider moves the rows follow a few times a second: laying them out costs more than the
  // boxes, which follow in every frame.
  _showList(now) {
    const wait = now ? 0 : this.listAt + ROWS_EVERY - performance.now();
    if (wait > 0) {
      this.listTimer ||= setTimeout(() => this._showList(true), wait);
      return;
    }
    clearTimeout(this.listTimer);
    this.listTimer = 0;
    this.listAt = performance.now();
    this.list.show(this.shown);
  }

  // What has one size on the screen whatever the zoom: labels and handles.
  _drawScreen() {
    const { editor, viewport } = this;
    if (!this.list || !this.shown) return;
    this.stage.classList.toggle("is-zoomed", !viewport.fitted);
    this.part("zoom").textContent = `${Math.round(viewport.scale * (window.devicePixelRatio || 1) * 100)} %`;
    const { chosen } = editor;
    const withText = this.part("labels").checked;
    const entries = [];
    for (const item of editor.items) {
      if (!this.shown.has(item.key) || !(withText || item === chosen || item.kind !== "model")) continue;
      entries.push(this._labelOf(item, withText || item === chosen, item === chosen));
    }
    this.labels.draw(entries, [viewport.wide, viewport.high]);
    this._drawLit();
    this.boxes.placeHandles(chosen && !this.conflict.open ? viewport.toScreen(chosen.box) : null);
    this.full.want(viewport.scale);
  }

  _labelOf(item, withText, forced) {
    const icon = item.kind === "model" ? null : item.kind;
    return { key: item.key, text: withText ? this.textOf(item) : "", icon, color: colorClass(item.label), box: this.viewport.toScreen(item.box), forced };
  }

  _drawLit() {
    const item = this.boxes.lit === null ? null : this.editor.item(this.boxes.lit);
    const seen = item && this.shown.has(item.key) && item !== this.editor.chosen;
    this.labels.light(seen ? this._labelOf(item, true, true) : null, [this.viewport.wide, this.viewport.high]);
  }

  textOf(item) {
    return item.score === null || item.kind !== "model" ? item.label : `${item.label} ${Math.round(100 * item.score)} %`;
  }

  light(key) {
    if (key === this.boxes.lit) return;
    this.boxes.mark("lit", key);
    this.list.mark("lit", key, key !== null && !this.list.root.matches(":hover, :focus-within"));
    this._drawLit();
  }

  _chosen(key) {
    const item = this.editor.chosen;
    this.boxes.mark("chosen", key);
    this.list.mark("chosen", key, true);
    this.details.show(item);
    this.stage.classList.toggle("has-chosen", Boolean(item));
    if (item) {
      this.viewport.reveal(item.box);
      this.say(`${this.textOf(item)}, ${this.texts[item.annotation?.verdict ?? "model"]}`);
    }
    this._drawScreen();
  }

  // Told to who cannot see it.
  say(text) {
    this.part("said").textContent = text;
  }

  _sign(kind, message) {
    const sign = this.part("sign");
    const text = message || this.texts[kind];
    sign.dataset.sign = kind;
    sign.querySelector("i").className = `bi ${SIGNS[kind]}`;
    sign.querySelector("span").textContent = text;
    sign.disabled = kind !== "conflict";
    if (kind !== "saving") this.part("sign-said").textContent = kind === "saved" ? "" : text; // only trouble is announced
  }

  // -- drawing a box, and its name -----------------------------------------------------------------------

  setDrawing(on) {
    this.editor.drawing = on;
    this.stage.classList.toggle("is-drawing", on);
    this.part("draw").setAttribute("aria-pressed", String(on));
    this.part("hint").hidden = !on;
    if (on) {
      this.stage.focus({ preventScroll: true });
      this.say(this.texts.drawing);
    }
  }

  get usualLabel() {
    const labels = this.editor.items.map((item) => item.label);
    const last = sessionStorage.getItem(LAST_LABEL);
    return last ?? labels[0] ?? this.config.labels[0] ?? this.texts.object;
  }

  get knownLabels() {
    return [...new Set([...this.editor.items.map((item) => item.label), ...this.config.labels])].sort((a, b) => a.localeCompare(b));
  }

  drawn(box) {
    this.setDrawing(false);
    if (this.editor.draw(this.usualLabel, box) !== null) this.askLabel(true);
  }

  drawInTheMiddle() {
    const { viewport } = this;
    this.setDrawing(false);
    const middle = viewport.toPicture(viewport.wide / 2, viewport.high / 2);
    this.editor.drawInTheMiddle(this.usualLabel, middle);
  }

  // fresh: the box was drawn just now; its name belongs to the same step.
  askLabel(fresh = false) {
    const item = this.editor.chosen;
    if (!item || this.editor.locked) return;
    this.naming = { key: item.key, fresh };
    const { viewport } = this;
    this.relabel.show(item.label, this.knownLabels, viewport.toScreen(item.box), [viewport.wide, viewport.high]);
  }

  _named(label) {
    const { key, fresh } = this.naming;
    sessionStorage.setItem(LAST_LABEL, label);
    this.editor.relabel(key, label, fresh && this.editor.history.past.length > 0);
  }
}
