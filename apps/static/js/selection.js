// Choosing tiles: ticks, ranges with Shift, Ctrl or Cmd on a tile, a long press; how many, in the bar.

const BOX = "[data-select]";
const PRESS_MS = 500; // of a finger that stays
const PRESS_PIXELS = 10; // that it may move meanwhile
const boxes = () => [...document.querySelectorAll(BOX)];
const form = () => document.querySelector("[data-selection]");
let last = null; // the id ticked before this one: the other end of a range

export function sync() {
  if (!form()) return;
  const count = form().querySelector("[data-selection-count]");
  const number = boxes().filter((box) => box.checked).length;
  count.hidden = false;
  count.textContent = count.dataset.text.replace("{count}", number);
  form().querySelector("[data-select-all]").hidden = number === boxes().length;
}

function range(from, to, checked) {
  const [first, end] = [from, to].sort((one, other) => one - other);
  for (const box of boxes().slice(first, end + 1)) box.checked = checked;
}

// `box` has its new state already.
function ticked(box, extend) {
  const ids = boxes().map((one) => one.value);
  const from = ids.indexOf(last);
  if (extend && from >= 0) range(from, ids.indexOf(box.value), box.checked);
  last = box.value;
  sync();
}

function toggle(tile, extend) {
  const box = tile.querySelector(BOX);
  box.checked = extend || !box.checked;
  ticked(box, extend);
}

// "Select all on this page" means the page that is read: tiles of other pages came by scrolling.
function selectAll() {
  const tiles = document.querySelector("[data-tiles]");
  const page = tiles?.dataset.page;
  for (const box of boxes()) {
    const of = box.closest("[data-image]")?.dataset.page;
    if (!page || !of || of === page) box.checked = true;
  }
  sync();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-select-all]")) selectAll();
  const box = event.target.closest(BOX);
  if (box) return ticked(box, event.shiftKey);
  const picture = event.target.closest("[data-tiles] .tile-picture");
  if (!picture) return;
  const chosen = boxes().some((one) => one.checked);
  const byKeys = event.ctrlKey || event.metaKey || (event.shiftKey && chosen);
  if (!byKeys && !(touch && chosen) && !pressed) return;
  event.preventDefault();
  if (!pressed) toggle(picture.closest(".tile"), event.shiftKey && chosen);
  pressed = false;
});

// -- a finger ----------------------------------------------------------------------------------

let touch = false; // the last pointer was a finger
let pressed = false; // it has just chosen a tile: the click that follows opens nothing
let press = null; // { timer, x, y }

function release() {
  if (press) clearTimeout(press.timer);
  press = null;
}

document.addEventListener("pointerdown", (event) => {
  release();
  touch = event.pointerType === "touch";
  pressed = false;
  const picture = event.target.closest?.("[data-tiles] .tile-picture");
  if (!touch || !picture) return;
  const timer = setTimeout(() => {
    pressed = true;
    press = null;
    toggle(picture.closest(".tile"), false);
    navigator.vibrate?.(15);
  }, PRESS_MS);
  press = { timer, x: event.clientX, y: event.clientY };
});
document.addEventListener("pointermove", (event) => {
  if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > PRESS_PIXELS) release();
});
for (const name of ["pointerup", "pointercancel", "scroll"]) document.addEventListener(name, release, { passive: true });
document.addEventListener("contextmenu", (event) => {
  if (touch && event.target.closest?.("[data-tiles] .tile-picture")) event.preventDefault(); // of a long press
});

// -- all the rest ------------------------------------------------------------------------------

document.addEventListener("reset", () => {
  last = null;
  setTimeout(sync); // after the boxes have changed
});

// Before page.js hears of it: while a menu is open, Escape closes that and nothing else.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.key !== "Escape" || document.querySelector("details[data-menu][open]")) return;
    if (!event.target.closest("input:not([type=checkbox])")) form()?.reset();
  },
  { capture: true },
);

// An export is saved while the page stays: what is chosen stays chosen. Enter in a
// menu does what its first button does: by itself it would detect again.
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Enter" && event.target.closest(".selection-panel");
  if (!menu || !event.target.matches("input")) return;
  event.preventDefault();
  form().requestSubmit(menu.querySelector("button"));
});

document.addEventListener("sightbox:tiles", sync); // the tiles are new, or more of them
addEventListener("pageshow", sync); // back: some browsers remember what was ticked
