// The picture page: slider, highlighting, label sizes, and following a detection until it settles.

import { highlight, scaleLabels, showThreshold } from "./boxes.js";
import { localTimes } from "./page.js";

const POLL_MS = 1000;
const result = () => document.getElementById("result");

// -- confidence -----------------------------------------------------------------------------

function applyThreshold(value) {
  const root = result();
  const counts = {};
  let shown = 0;
  for (const item of root.querySelectorAll("[data-box]")) {
    const visible = Number(item.dataset.score) >= value;
    item.classList.toggle("d-none", !visible);
    if (visible && item.tagName === "LI") {
      shown += 1;
      counts[item.dataset.label] = (counts[item.dataset.label] ?? 0) + 1;
    }
  }
  for (const chip of root.querySelectorAll("[data-count]")) chip.textContent = counts[chip.dataset.count] ?? 0;
  root.querySelector("[data-none-shown]").classList.toggle("d-none", shown > 0);
  showThreshold(root, value);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-threshold]")) applyThreshold(Number(event.target.value));
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-threshold-form]")) event.preventDefault();
});

// -- labels ---------------------------------------------------------------------------------

function applyLabels() {
  const box = result().querySelector("[data-labels]");
  result().querySelector("[data-boxes]").classList.toggle("with-labels", box?.checked ?? false);
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-labels]")) applyLabels();
});
const resized = new ResizeObserver(() => scaleLabels(result()));

// -- following ----------------------------------------------------------------------------------

function ready() {
  scaleLabels(result());
  applyLabels();
  resized.disconnect();
  resized.observe(result().querySelector("[data-stage]"));
  localTimes(result());
}

async function follow() {
  while (!["done", "failed"].includes(result().dataset.status)) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    if (document.hidden || result().contains(document.activeElement?.closest("input[type=text], input:not([type])") ?? null)) continue;
    const answer = await fetch(result().dataset.resultUrl).catch(() => null);
    if (answer?.status === 404) return location.reload();
    if (!answer?.ok) continue;
    const fresh = document.createElement("template");
    fresh.innerHTML = await answer.text();
    const next = fresh.content.getElementById("result");
    if (!next) return location.reload(); // logged out meanwhile
    if (next.dataset.status === result().dataset.status) continue;
    // The picture is the same: keep its element, so that nothing flickers.
    next.querySelector("img").replaceWith(result().querySelector("img"));
    result().replaceWith(next);
    ready();
  }
}

highlight(result, "li");
ready();
follow();
