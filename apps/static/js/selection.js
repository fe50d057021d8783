// Ticking tiles of the gallery: ranges with Shift, all of the page, Escape; how many, in the bar.

const BOX = "[data-select]";
const boxes = () => [...document.querySelectorAll(BOX)];
const form = () => document.querySelector("[data-selection]");
let last = null; // the id ticked before this one: the other end of a range

function sync() {
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

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-select-all]")) {
    for (const box of boxes()) box.checked = true;
    sync();
  }
  const box = event.target.closest(BOX);
  if (!box) return;
  const ids = boxes().map((one) => one.value);
  const from = ids.indexOf(last);
  if (event.shiftKey && from >= 0) range(from, ids.indexOf(box.value), box.checked);
  last = box.value;
  sync();
});

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

document.addEventListener("sightbox:tiles", sync); // the tiles are new
addEventListener("pageshow", sync); // back: some browsers remember what was ticked
