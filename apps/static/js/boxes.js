// What every page with boxes over a picture does: highlighting, and labels of one size.

const boxOf = (target) => (target instanceof Element ? target.closest("[data-box]") : null);

// Everything about one object lights up together, whichever part the pointer or the focus is on.
export function highlight(root, row) {
  const light = (id) => {
    for (const item of root().querySelectorAll("[data-box]")) item.classList.toggle("is-lit", item.dataset.box === id);
  };
  document.addEventListener("pointerover", (event) => light(boxOf(event.target)?.dataset.box));
  document.addEventListener("focusin", (event) => light(boxOf(event.target)?.dataset.box));
  document.addEventListener("click", (event) => {
    const box = boxOf(event.target);
    if (!box) return;
    light(box.dataset.box);
    const line = root().querySelector(`${row}[data-box="${box.dataset.box}"]`);
    if (box !== line) line?.scrollIntoView({ block: "nearest" });
  });
}

// Labels have the same size on the screen whatever the size of the picture.
export function scaleLabels(root) {
  for (const svg of root.querySelectorAll("[data-boxes]")) {
    if (!svg.clientWidth) continue;
    const { width, height } = svg.viewBox.baseVal;
    svg.style.setProperty("--unit", Math.max(width / svg.clientWidth, height / svg.clientHeight));
  }
}

// The slider's value beside it, and in the links that depend on it.
export function showThreshold(root, value) {
  root.querySelector("[data-threshold-output]").textContent = `${Math.round(value * 100)} %`;
  for (const link of root.querySelectorAll("[data-with-threshold]")) {
    const address = new URL(link.href);
    address.searchParams.set("threshold", value.toFixed(2));
    link.href = address;
  }
}
