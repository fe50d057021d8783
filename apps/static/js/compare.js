// The page of two results: one slider for both; who sees an object follows from its two scores.

import { highlight, scaleLabels, showThreshold } from "./boxes.js";

const root = document.querySelector("[data-compare]");
const SIDES = ["left", "right"];

function apply(value) {
  const seen = {};
  const tally = { both: 0, left: 0, right: 0 };
  for (const row of root.querySelectorAll("tr[data-box]")) {
    const by = SIDES.filter((side) => row.dataset[side] && Number(row.dataset[side]) >= value);
    const who = by.length === 2 ? "both" : by[0];
    seen[row.dataset.box] = { by, who };
    if (who) tally[who] += 1;
    show(row, who, Boolean(who));
  }
  for (const box of root.querySelectorAll("g[data-box]")) {
    const { by, who } = seen[box.dataset.box];
    show(box, who, by.includes(box.dataset.side));
  }
  const total = tally.both + tally.left + tally.right;
  for (const [who, count] of Object.entries(tally)) root.querySelector(`[data-tally="${who}"]`).textContent = count;
  for (const side of SIDES) root.querySelector(`[data-total="${side}"]`).textContent = tally.both + tally[side];
  root.querySelector("[data-share]").textContent = total ? `${Math.round((100 * tally.both) / total)} %` : "–";
  root.querySelector("[data-none-shown]")?.classList.toggle("d-none", total > 0);
  showThreshold(root, value);
}

function show(item, who, visible) {
  item.classList.toggle("d-none", !visible);
  for (const name of ["both", ...SIDES]) item.classList.toggle(`is-${name}`, name === who);
}

if (root) {
  root.addEventListener("input", (event) => {
    if (event.target.matches("[data-threshold]")) apply(Number(event.target.value));
  });
  root.addEventListener("change", (event) => {
    if (event.target.matches("[data-model]")) event.target.form.submit();
  });
  highlight(() => root, "tr");
  const resized = new ResizeObserver(() => scaleLabels(root));
  for (const stage of root.querySelectorAll("[data-stage]")) resized.observe(stage);
  addEventListener("pageshow", () => apply(Number(root.querySelector("[data-threshold]").value))); // back: the slider stays where it was
}
