// A sheet of paper to draw on, with mouse, pen or finger. Strokes are kept, so that one can be undone.

const INK = "#000";
const PAPER = "#fff";
const PEN = 20; // pixels of the canvas: about two of the 28 that a network reads

export function startPad(root, changed) {
  const canvas = root.querySelector("canvas");
  const undo = root.querySelector("[data-pad-undo]");
  const clear = root.querySelector("[data-pad-clear]");
  const context = canvas.getContext("2d");
  let strokes = [];
  let pointer = null; // of the stroke that is being drawn

  function place(event) {
    const frame = canvas.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) * canvas.width) / frame.width,
      ((event.clientY - frame.top) * canvas.height) / frame.height,
    ];
  }

  function paint() {
    context.fillStyle = PAPER;
    context.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(context, { strokeStyle: INK, lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    for (const [first, ...rest] of strokes) {
      context.beginPath();
      context.moveTo(...first);
      context.lineTo(...first); // a dot, if nothing follows
      for (const point of rest) context.lineTo(...point);
      context.stroke();
    }
    undo.disabled = clear.disabled = !strokes.length;
  }

  function update(next) {
    strokes = next;
    paint();
    changed();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pointer !== null) return;
    event.preventDefault();
    canvas.focus();
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    update([...strokes, [place(event)]]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    strokes.at(-1).push(...(between.length ? between : [event]).map(place));
    update(strokes);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId === pointer) pointer = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Delete" && strokes.length) update([]);
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      update(strokes.slice(0, -1));
    }
  });
  undo.addEventListener("click", () => update(strokes.slice(0, -1)));
  clear.addEventListener("click", () => update([]));

  root.hidden = false;
  paint();
  return {
    isEmpty: () => !strokes.length,
    file: () => new Promise((resolve) => canvas.toBlob(resolve, "image/png")),
  };
}
