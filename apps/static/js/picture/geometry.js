// Boxes are [x1, y1, x2, y2] in pixels of the upright picture.

export const LEAST = 1; // pixels, the smallest side that a box may have

export const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
export const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
export const contains = ([x1, y1, x2, y2], x, y) => x1 <= x && x <= x2 && y1 <= y && y <= y2;
export const sameBox = (a, b) => a.every((value, index) => Math.abs(value - b[index]) < 0.01);

export function overlap(a, b) {
  const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const high = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (wide <= 0 || high <= 0) return 0;
  return (wide * high) / (area(a) + area(b) - wide * high);
}

// The same size, moved so far that it lies inside of the picture.
export function moved(box, dx, dy, width, height) {
  const x = clamp(box[0] + dx, 0, width - (box[2] - box[0]));
  const y = clamp(box[1] + dy, 0, height - (box[3] - box[1]));
  return tidy([x, y, x + box[2] - box[0], y + box[3] - box[1]], width, height);
}

// One handle ("nw", "e", …) at another place; past the opposite side the box turns over.
export function resized(box, handle, x, y, width, height) {
  const [x1, y1, x2, y2] = box;
  const left = handle.includes("w") ? x : x1;
  const right = handle.includes("e") ? x : x2;
  const top = handle.includes("n") ? y : y1;
  const bottom = handle.includes("s") ? y : y2;
  return tidy([left, top, right, bottom], width, height);
}

// Corners in order, inside of the picture, at least LEAST wide and high, two decimals.
export function tidy([xa, ya, xb, yb], width, height) {
  const span = (a, b, limit) => {
    let low = clamp(Math.min(a, b), 0, limit);
    let high = clamp(Math.max(a, b), 0, limit);
    if (high - low < LEAST) {
      low = clamp(low, 0, limit - LEAST);
      high = Math.min(low + LEAST, limit);
    }
    return [round(low), round(high)];
  };
  const [x1, x2] = span(xa, xb, width);
  const [y1, y2] = span(ya, yb, height);
  return [x1, y1, x2, y2];
}

const round = (value) => Math.round(value * 100) / 100;

// Greedy suppression of boxes with the same label, the surest first. Overlaps are computed once
// for a set of boxes, so that each place of the slider costs a walk over a list of pairs.
export class Suppression {
  static FLOOR = 0.1; // the smallest overlap that the slider offers

  // boxes: [{label, score, box}]; a person's boxes have the score 1 and are never suppressed.
  constructor(boxes) {
    this.order = boxes.map((_, index) => index).sort((a, b) => boxes[b].score - boxes[a].score);
    this.fixed = boxes.map((item) => item.certain);
    this.pairs = boxes.map(() => []);
    const groups = grouped(this.order, (index) => boxes[index].label);
    for (const group of groups.values()) {
      for (let a = 0; a < group.length; a += 1) {
        for (let b = a + 1; b < group.length; b += 1) {
          const shared = overlap(boxes[group[a]].box, boxes[group[b]].box);
          if (shared >= Suppression.FLOOR) this.pairs[group[a]].push([group[b], shared]);
        }
      }
    }
  }

  // Set of the places of boxes that a surer one overlaps by more than limit (0 to 1; 1: none).
  at(limit) {
    const gone = new Set();
    if (limit >= 1) return gone;
    for (const index of this.order) {
      if (gone.has(index)) continue;
      for (const [other, shared] of this.pairs[index]) if (shared > limit && !this.fixed[other]) gone.add(other);
    }
    return gone;
  }
}

function grouped(values, keyOf) {
  const groups = new Map();
  for (const value of values) {
    const key = keyOf(value);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(value);
  }
  return groups;
}
