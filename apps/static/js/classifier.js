// The page of a network: whatever is chosen, dropped, pasted or drawn is answered without leaving it.

import { onFilesDropped } from "./drop.js";
import { startPad } from "./pad.js";

const PAUSE_MS = 250; // in a drawing, before it is asked about
const form = document.querySelector("[data-classify]");
const layers = document.querySelector("[data-layers]");

// -- asking -----------------------------------------------------------------------------------

let given = null; // () => the file to ask about; null: what the form itself says
let running = false;
let again = false;

const answer = () => document.getElementById("answer");

function problem(reason) {
  const part = form.querySelector("template[data-problem]").content.firstElementChild.cloneNode(true);
  part.querySelector("[role=alert]").textContent = reason;
  return part;
}

// One question at a time; of those that come meanwhile only the last one is asked.
async function ask() {
  again = running;
  if (running) return;
  running = true;
  do {
    again = false;
    answer().setAttribute("aria-busy", "true");
    const asked = given;
    const part = await send().catch(() => problem(form.dataset.textOffline));
    if (!again && given === asked) answer().replaceWith(part); // else it is no longer asked about
  } while (again);
  running = false;
}

async function send() {
  const text = form.dataset;
  const body = new FormData(form);
  const file = await given?.();
  if (file?.size > Number(text.maxBytes)) return problem(text.textTooLarge);
  if (file) body.set("image", file, file.name ?? "drawing.png");
  const response = await fetch(text.answerUrl, { method: "POST", body });
  if (response.redirected) return problem(text.textSession);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return page.getElementById("answer") ?? problem(text.textFailed.replace("{status}", response.status));
}

function take([file]) {
  if (!file) return;
  given = () => file;
  ask();
}

// -- ways to give a picture -------------------------------------------------------------------

function startForm() {
  const input = form.elements.image;
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // so that the same file can be chosen once more
  });
  onFilesDropped(take);
  document.addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (given || form.elements.image_id) ask();
    else input.click();
  });
  form.addEventListener("change", (event) => {
    if (event.target !== input && (given || form.elements.image_id)) ask();
  });
  form.querySelector("[data-plain-submit]").hidden = true;
  form.classList.add("is-enhanced");
  form.querySelector(".dropzone").classList.add("is-enhanced");
  const pad = document.querySelector("[data-pad]");
  if (pad) startDrawing(pad);
}

function startDrawing(root) {
  const nothing = answer().cloneNode(true);
  document.querySelector("[data-no-pad]").hidden = true;
  let timer;
  const pad = startPad(root, () => {
    clearTimeout(timer);
    given = pad.isEmpty() ? null : pad.file;
    if (given) timer = setTimeout(ask, PAUSE_MS);
    else answer().replaceWith(nothing.cloneNode(true));
  });
}

if (form) startForm();

// -- layers -----------------------------------------------------------------------------------

layers.addEventListener("toggle", async () => {
  const link = layers.querySelector("a[data-layers-link]");
  if (!layers.open || !link) return;
  const response = await fetch(link.href).catch(() => null);
  const page = new DOMParser().parseFromString((await response?.text()) ?? "", "text/html");
  const table = page.querySelector("[data-layers-table]");
  if (table) link.parentElement.replaceWith(table); // else the link stays, and tells more
});
