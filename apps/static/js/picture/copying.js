// Crop, picture with boxes and JSON, to the clipboard or to a file.

import { colorClass } from "./colors.js";

const FONT = "600 {}px system-ui, sans-serif";

// canvas of a part of the picture; the whole original where it is loaded, else the copy.
function canvasOf(image, [width, height], [x1, y1, x2, y2]) {
  const scale = image.naturalWidth / width;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round((x2 - x1) * scale));
  canvas.height = Math.max(1, Math.round((y2 - y1) * scale));
  const pen = canvas.getContext("2d");
  pen.drawImage(image, x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale, 0, 0, canvas.width, canvas.height);
  return [canvas, pen, scale];
}

const blobOf = (canvas) => new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("empty"))), "image/png"));

function colorsOf(label) {
  const probe = document.createElement("span");
  probe.className = colorClass(label);
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const colors = [style.getPropertyValue("--label").trim(), style.getPropertyValue("--on-label").trim()];
  probe.remove();
  return colors;
}

export const cropOf = (image, size, box) => blobOf(canvasOf(image, size, box)[0]);

export function annotatedOf(image, size, items, textOf) {
  const [canvas, pen, scale] = canvasOf(image, size, [0, 0, ...size]);
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / 900);
  pen.font = FONT.replace("{}", 13 * unit);
  pen.lineWidth = 2.5 * unit;
  pen.textBaseline = "middle";
  for (const item of items) {
    const [x1, y1, x2, y2] = item.box.map((value) => value * scale);
    const [color, on] = colorsOf(item.label);
    pen.strokeStyle = color;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const [text, high] = [textOf(item), 19 * unit];
    const wide = pen.measureText(text).width + 10 * unit;
    const top = y1 - high >= 0 ? y1 - high : y1;
    const left = Math.max(0, Math.min(x1, canvas.width - wide));
    pen.fillStyle = color;
    pen.fillRect(left, top, wide, high);
    pen.fillStyle = on;
    pen.fillText(text, left + 5 * unit, top + high / 2);
  }
  return blobOf(canvas);
}

export function jsonOf(server, title, items) {
  const boxes = items.map(({ label, score, box, annotation }) => ({ label, score, verdict: annotation?.verdict ?? null, x1: box[0], y1: box[1], x2: box[2], y2: box[3] }));
  return JSON.stringify({ file: title, width: server.width, height: server.height, model: server.model, reviewed: server.reviewed, boxes }, null, 2);
}

// The clipboard takes promises, so that a slow picture still belongs to the click.
export async function copyPicture(making) {
  if (!navigator.clipboard?.write || typeof ClipboardItem === "undefined") throw new Error("no clipboard");
  await navigator.clipboard.write([new ClipboardItem({ "image/png": making })]);
}

export async function copyText(text) {
  if (!navigator.clipboard?.writeText) throw new Error("no clipboard");
  await navigator.clipboard.writeText(text);
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
