// What keys and buttons do; both call the same functions. The dialog of keys is in _keys.html.

import { annotatedOf, copyPicture, copyText, cropOf, download, jsonOf } from "./copying.js";

const PAN = 60; // pixels of the screen for an arrow key
const FAR = 10; // times as far with Ctrl
const ASIDE = 12; // pixels of the screen between a box and its copy
const LEAVE = 2000; // milliseconds that going on waits for the server; what is left is kept here
const ARROWS = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
const WALKING = "sightbox:walking";

// {commands: {name of a button: function}, keys: {name of a key: function}}
export function actionsOf(page) {
  const commands = { ...viewing(page), ...editing(page), ...sharing(page) };
  return { commands, keys: keysOf(page, commands) };
}

function viewing(page) {
  const { filter, viewport } = page;
  const viewer = page.part("viewer");
  return {
    zoomIn: () => viewport.zoomIn(),
    zoomOut: () => viewport.zoomOut(),
    fit: () => viewport.fit(),
    actual: () => viewport.actualSize(),
    fullscreen: () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (viewer.requestFullscreen) viewer.requestFullscreen().catch(() => page.say(page.texts.noFullscreen));
    },
    help: () => document.querySelector("[data-keys]").showModal(),
    blank: () => filter.set({ blank: !filter.blank }),
    labels: () => page.part("labels").click(),
    masks: () => page.part("masks")?.click(),
    allClasses: () => filter.all(),
    rejected: () => filter.toggleRejected(),
    conflict: () => page.conflict.show(),
    next: () => go(page, "next"),
    previous: () => go(page, "prev"),
  };
}

function go(page, direction) {
  const link = document.querySelector(`a[rel=${direction}]`);
  if (!link) return page.say(page.texts.noMore);
  try {
    sessionStorage.setItem(WALKING, "1");
  } catch {
    page.walking = true; // a browser that keeps nothing
  }
  location.assign(link.href);
  return true;
}

// Who came here with a key goes on with keys: the picture has the focus.
export function continueWalking(page) {
  if (!sessionStorage.getItem(WALKING)) return;
  sessionStorage.removeItem(WALKING);
  page.stage.focus({ preventScroll: true });
}

function editing(page) {
  const { editor } = page;
  const walk = (item) => neighbour(page, item, 1) ?? neighbour(page, item, -1);
  const leaving = (change) => () => { // the next box is chosen where this one is not seen any more
    const item = editor.chosen;
    if (!item) return;
    const next = walk(item);
    if (!change()) return;
    const seen = editor.item(item.key) && page.shown.has(item.key);
    editor.choose(seen ? item.key : (next ?? null));
  };
  return {
    draw: () => page.setDrawing(!editor.drawing),
    undo: () => editor.undo(),
    redo: () => editor.redo(),
    accept: () => editor.accept(),
    acceptAll: () => editor.acceptAll(editor.items.filter((item) => page.shown.has(item.key))),
    reject: leaving(() => editor.reject()),
    remove: leaving(() => editor.reject()),
    forget: () => editor.forget(),
    relabel: () => page.askLabel(),
    duplicate: () => editor.duplicate(ASIDE / page.viewport.scale),
    reviewed: () => editor.review(!editor.layer.reviewed),
    reviewNext: async () => {
      editor.review(true);
      if (editor.locked) return;
      await page.saver.settled(LEAVE);
      if (!editor.locked) go(page, "next");
    },
  };
}

function sharing(page) {
  const { config, editor, size, texts, viewport } = page;
  const shown = () => editor.items.filter((item) => page.shown.has(item.key) && item.kind !== "rejected");
  const told = async (work, done) => {
    try {
      await work();
      toast(page, done);
    } catch {
      toast(page, texts.noClipboard);
    }
  };
  const crop = () => cropOf(viewport.image, size, editor.chosen.box);
  return {
    copyCrop: () => editor.chosen && told(() => copyPicture(crop()), texts.copied),
    saveCrop: async () => {
      if (!editor.chosen) return;
      const name = `${config.stem}-${editor.chosen.label}.png`;
      await crop().then((blob) => download(blob, name)).catch(() => toast(page, texts.noCrop));
    },
    copyAnnotated: () => told(() => copyPicture(annotatedOf(viewport.image, size, shown(), (item) => page.textOf(item))), texts.copied),
    copyJson: () => told(() => copyText(jsonOf({ ...editor.picture.server, reviewed: editor.layer.reviewed }, config.title, shown())), texts.copied),
    gallery: () => document.querySelector("[data-gallery]").click(),
    tag: () => page.root.querySelector("#name").focus(),
    again: () => page.root.querySelector("[data-again]").click(),
    deletePicture: () => page.root.querySelector("[data-delete]").click(),
    saveAnnotated: () => page.root.querySelector("[data-save-annotated]").click(),
    saveJson: () => page.root.querySelector("[data-save-json]").click(),
    saveOriginal: () => page.root.querySelector("[data-save-original]").click(),
    classify: () => page.root.querySelector("[data-classify]").click(),
    compare: () => page.root.querySelector("[data-compare-link]")?.click(),
  };
}

function toast(page, text) {
  const place = page.part("toast");
  place.textContent = text;
  clearTimeout(page.toastTimer);
  page.toastTimer = setTimeout(() => (place.textContent = ""), 6000);
}

// The next box that is seen, in the order of the list; undefined at its end.
function neighbour(page, item, step) {
  const keys = page.list.keys.filter((key) => page.shown.has(key));
  return keys[item ? keys.indexOf(item.key) + step : step > 0 ? 0 : keys.length - 1];
}

function keysOf(page, commands) {
  const { editor, filter, gestures, viewport } = page;
  const always = (name) => () => {
    commands[name]();
  };
  const withBox = (name) => () => (editor.chosen ? void commands[name]() : false);
  const keys = {
    "+": always("zoomIn"), "=": always("zoomIn"), "-": always("zoomOut"), _: always("zoomOut"), 0: always("fit"), 1: always("actual"),
    f: always("fullscreen"), "?": always("help"), h: always("blank"), t: always("labels"), m: always("masks"), a: always("allClasses"), v: always("rejected"),
    n: always("next"), p: always("previous"), d: always("draw"), b: always("classify"), e: always("compare"),
    "ctrl+z": always("undo"), "ctrl+shift+z": always("redo"), "ctrl+y": always("redo"),
    "shift+enter": always("acceptAll"), x: withBox("reject"), r: withBox("reject"), delete: withBox("reject"), backspace: withBox("reject"),
    u: withBox("forget"), l: withBox("relabel"), c: withBox("duplicate"), w: always("reviewed"),
    k: withBox("copyCrop"), "shift+k": withBox("saveCrop"), i: always("copyAnnotated"), "shift+i": always("saveAnnotated"), j: always("copyJson"), "shift+j": always("saveJson"), "shift+o": always("saveOriginal"),
    g: always("gallery"), "shift+t": always("tag"), "shift+d": always("again"), "shift+delete": always("deletePicture"),
    ",": () => filter.step("threshold", -1), ".": () => filter.step("threshold", 1), "<": () => filter.step("limit", -1), ">": () => filter.step("limit", 1),
    enter: () => {
      if (editor.drawing) return void page.drawInTheMiddle();
      return editor.chosen ? void commands.accept() : false;
    },
    escape: () => letGo(page),
    tab: (event) => tab(page, event, 1), "shift+tab": (event) => tab(page, event, -1),
    space: () => holdSpace(page, commands, gestures),
  };
  for (const [name, [dx, dy]] of Object.entries(ARROWS)) {
    const step = (far) => (far ? FAR : 1) / viewport.scale;
    const arrow = (far) => () => (editor.chosen ? void editor.move(dx * step(far), dy * step(far)) : pan(page, dx, dy));
    const grow = (far) => () => (editor.chosen ? void editor.grow(dx * step(far), dy * step(far)) : false);
    Object.assign(keys, { [name]: arrow(false), [`ctrl+${name}`]: arrow(true), [`shift+${name}`]: grow(false), [`ctrl+shift+${name}`]: grow(true) });
  }
  return keys;
}

// The whole picture is seen: left and right lead to its neighbours, up and down move the page.
function pan(page, dx, dy) {
  const { viewport } = page;
  if (!viewport.fitted) return void viewport.pan(PAN * dx, PAN * dy);
  if (dy || document.activeElement?.closest("input")) return false;
  return void go(page, dx > 0 ? "next" : "prev");
}

function letGo(page) {
  const { editor, gestures } = page;
  if (gestures.abandon()) return undefined;
  if (editor.drawing) return void page.setDrawing(false);
  if (editor.chosenKey !== null) return void editor.choose(null);
  return false;
}

// Tab walks from box to box while the picture has the focus, and leaves it after the last one.
function tab(page, event, step) {
  if (event.target !== page.stage) return false;
  const next = neighbour(page, page.editor.chosen, step);
  if (next === undefined || (step < 0 && !page.editor.chosen)) {
    page.editor.choose(null);
    return false;
  }
  return void page.editor.choose(next);
}

// Pressed alone it marks the picture and goes on, once it is let go; held, the mouse pans.
function holdSpace(page, commands, gestures) {
  if (gestures.holdingSpace) return;
  gestures.holdingSpace = true;
  gestures.usedSpace = false;
  page.stage.classList.add("is-grabbing");
  document.addEventListener("keyup", () => {
    page.stage.classList.remove("is-grabbing");
    if (!gestures.holdingSpace) return;
    gestures.holdingSpace = false;
    if (!gestures.usedSpace) commands.reviewNext();
  }, { once: true, signal: page.ended.signal });
}
