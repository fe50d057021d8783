// The picture page: slider, highlighting, label sizes, and following a detection until it settles.

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
  root.querySelector("[data-threshold-output]").textContent = `${Math.round(value * 100)} %`;
  root.querySelector("[data-none-shown]").classList.toggle("d-none", shown > 0);
  for (const link of root.querySelectorAll("[data-with-threshold]")) {
    const address = new URL(link.href);
    address.searchParams.set("threshold", value.toFixed(2));
    link.href = address;
  }
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-threshold]")) applyThreshold(Number(event.target.value));
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-threshold-form]")) event.preventDefault();
});

// -- highlight: either side lights the other --------------------------------------------------

function light(id) {
  for (const item of result().querySelectorAll("[data-box]")) item.classList.toggle("is-lit", item.dataset.box === id);
}
const boxOf = (target) => (target instanceof Element ? target.closest("[data-box]") : null);

document.addEventListener("pointerover", (event) => light(boxOf(event.target)?.dataset.box));
document.addEventListener("focusin", (event) => light(boxOf(event.target)?.dataset.box));
document.addEventListener("click", (event) => {
  const box = boxOf(event.target);
  if (!box) return;
  light(box.dataset.box);
  const row = result().querySelector(`li[data-box="${box.dataset.box}"]`);
  if (box !== row) row?.scrollIntoView({ block: "nearest" });
});

// -- labels: the same size on the screen whatever the size of the picture ---------------------

function scaleLabels() {
  const svg = result().querySelector("[data-boxes]");
  if (!svg.clientWidth) return;
  const { width, height } = svg.viewBox.baseVal;
  svg.style.setProperty("--unit", Math.max(width / svg.clientWidth, height / svg.clientHeight));
}
function applyLabels() {
  const box = result().querySelector("[data-labels]");
  result().querySelector("[data-boxes]").classList.toggle("with-labels", box?.checked ?? false);
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-labels]")) applyLabels();
});
const resized = new ResizeObserver(scaleLabels);

// -- following ----------------------------------------------------------------------------------

function ready() {
  scaleLabels();
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

ready();
follow();
