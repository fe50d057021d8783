// Boxes over a moving picture: drawn anew for each frame, labels of one size on the screen.

import { scaleLabels } from "./boxes.js";

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// boxes: [{label, score, box: [x1, y1, x2, y2], color}], in pixels of a picture of this width.
export function drawBoxes(svg, boxes, width, mirror = false) {
  const parts = boxes.map(({ label, score, box: [x1, y1, x2, y2], color }) => {
    const x = mirror ? width - x2 : x1;
    const group = make("g", { class: `box c${color}` });
    const text = make("text", { x, y: y1 });
    text.textContent = `${label} ${Math.round(100 * score)} %`;
    group.append(make("rect", { x, y: y1, width: x2 - x1, height: y2 - y1 }), text);
    return group;
  });
  svg.replaceChildren(...parts);
}

export function keepLabelSize(root, stage) {
  new ResizeObserver(() => scaleLabels(root)).observe(stage);
  scaleLabels(root);
}
