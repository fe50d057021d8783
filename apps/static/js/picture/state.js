// What is on the picture: a model's boxes from the server, and over them the layer of people.
//
// The layer is a frozen list of annotations {ref, verdict, label, box, detection, found, author}.
// Each change makes another list, so that undo, redo and saving are about whole layers.

import { sameBox, tidy } from "./geometry.js";

export const MAX_LABEL = 40; // characters, as the server takes them
const SHOWN_AS = { drawn: "person", changed: "person", accepted: "accepted", rejected: "rejected" };

// UUID version 4; crypto.randomUUID exists on secure pages alone, and many people have none.
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function layerOf(server) {
  const annotations = server.annotations.map(({ ref, verdict, label, box, detection, found, author }) =>
    Object.freeze({ ref, verdict, label, box, detection, found, author }));
  return Object.freeze({ reviewed: server.reviewed, annotations: Object.freeze(annotations) });
}

// The part of a layer that is sent.
export function wire(layer) {
  const annotations = layer.annotations.map(({ ref, verdict, label, box, detection, found }) => ({ ref, verdict, label, box, detection, found }));
  return { reviewed: layer.reviewed, annotations };
}

export class PictureState {
  constructor(server) {
    this.adopt(server);
  }

  adopt(server) {
    this.server = server;
    this.size = [server.width, server.height];
    this.byId = new Map(server.detections.map((detection) => [detection.id, detection]));
  }

  // Everything to show, a person's own boxes first, then in the order of the scores:
  // [{key, kind, label, box, score, certain, mask, annotation, detection}]. The key of a model's
  // box stays the same when a person says something about it, so that what is chosen stays so.
  items(layer) {
    const standing = new Map(); // detection id -> annotation
    const refs = new Map(layer.annotations.map((annotation) => [annotation.ref, annotation]));
    for (const detection of this.server.detections) {
      const annotation = detection.annotation ? refs.get(detection.annotation) : undefined;
      if (annotation) standing.set(detection.id, annotation);
    }
    for (const annotation of layer.annotations) {
      const detection = this.byId.get(annotation.detection);
      if (detection && isAbout(annotation, detection)) standing.set(detection.id, annotation);
    }
    const placed = new Set();
    const found = [];
    for (const detection of this.server.detections) {
      const annotation = standing.get(detection.id);
      if (!annotation) found.push(modelItem(detection));
      else if (!placed.has(annotation.ref)) {
        placed.add(annotation.ref);
        found.push(personItem(annotation, detection));
      }
    }
    const own = layer.annotations.filter((annotation) => !placed.has(annotation.ref)).map((annotation) => personItem(annotation, null));
    return [...own, ...found];
  }

  found(detection) {
    return { model: this.server.model, label: detection.label, score: detection.score, box: detection.box };
  }

  // -- changes: each gives another layer, or the same one where nothing changes ---------------

  drawn(layer, label, box) {
    const annotation = { ref: uuid(), verdict: "drawn", label, box: tidy(box, ...this.size), detection: null, found: null, author: null };
    return [withAnnotation(layer, annotation), annotation.ref];
  }

  accepted(layer, item) {
    if (item.kind === "model") return this._about(layer, item, "accepted", {});
    if (item.annotation.verdict !== "rejected") return layer;
    const { found } = item.annotation;
    return withAnnotation(layer, { ...item.annotation, ...same(found), verdict: "accepted" });
  }

  // A model's box is remembered as wrong; a person's own one is gone.
  rejected(layer, item) {
    if (item.kind === "model") return this._about(layer, item, "rejected", {});
    const { annotation } = item;
    if (annotation.verdict === "rejected") return layer;
    if (annotation.verdict === "drawn") return without(layer, annotation.ref);
    return withAnnotation(layer, { ...annotation, ...same(annotation.found), verdict: "rejected" });
  }

  // Another label or other corners; a model's box with both as they were found counts as accepted.
  changed(layer, item, change) {
    const next = { label: change.label ?? item.label, box: change.box ? tidy(change.box, ...this.size) : item.box };
    if (next.label === item.label && sameBox(next.box, item.box) && item.kind !== "model") return layer;
    if (item.kind === "model") {
      const asFound = next.label === item.label && sameBox(next.box, item.box);
      return asFound ? layer : this._about(layer, item, "changed", next);
    }
    const { annotation } = item;
    if (annotation.verdict === "drawn") return withAnnotation(layer, { ...annotation, ...next });
    const asFound = next.label === annotation.found.label && sameBox(next.box, annotation.found.box);
    return withAnnotation(layer, { ...annotation, ...next, verdict: asFound ? "accepted" : "changed" });
  }

  // Back to what the model said, as if nobody had said anything.
  forgotten(layer, item) {
    return item.annotation ? without(layer, item.annotation.ref) : layer;
  }

  reviewed(layer, value) {
    return layer.reviewed === value ? layer : Object.freeze({ ...layer, reviewed: value });
  }

  _about(layer, item, verdict, change) {
    const { detection } = item;
    const annotation = { ref: uuid(), verdict, label: detection.label, box: detection.box, ...change, detection: detection.id, found: this.found(detection), author: null };
    return withAnnotation(layer, annotation);
  }
}

// The database may give the id of a box that is gone to another one.
const isAbout = ({ found }, { label, box }) => found !== null && found.label === label && sameBox(found.box, box);
const same = (found) => (found ? { label: found.label, box: found.box } : {});

function modelItem(detection) {
  const { id, label, box, score, mask } = detection;
  return { key: String(id), kind: "model", label, box, score, certain: false, mask, annotation: null, detection };
}

function personItem(annotation, detection) {
  const unchanged = detection && annotation.verdict !== "changed" && annotation.verdict !== "drawn";
  return {
    key: detection ? String(detection.id) : annotation.ref,
    kind: SHOWN_AS[annotation.verdict], label: annotation.label, box: annotation.box,
    score: annotation.found?.score ?? null, certain: annotation.verdict !== "rejected",
    mask: unchanged ? detection.mask : null, annotation, detection,
  };
}

function withAnnotation(layer, annotation) {
  const frozen = Object.freeze(annotation);
  const place = layer.annotations.findIndex((other) => other.ref === annotation.ref);
  const annotations = place < 0 ? [...layer.annotations, frozen] : layer.annotations.map((other, index) => (index === place ? frozen : other));
  return Object.freeze({ ...layer, annotations: Object.freeze(annotations) });
}

function without(layer, ref) {
  return Object.freeze({ ...layer, annotations: Object.freeze(layer.annotations.filter((other) => other.ref !== ref)) });
}

// How two layers differ: {mine, theirs, different}, counts of boxes only here, only there, unlike.
export function differences(mine, theirs) {
  const other = new Map(theirs.annotations.map((annotation) => [annotation.ref, annotation]));
  const counts = { mine: 0, theirs: 0, different: 0 };
  for (const annotation of mine.annotations) {
    const twin = other.get(annotation.ref);
    other.delete(annotation.ref);
    if (!twin) counts.mine += 1;
    else if (twin.verdict !== annotation.verdict || twin.label !== annotation.label || !sameBox(twin.box, annotation.box)) counts.different += 1;
  }
  counts.theirs = other.size;
  return counts;
}

export function sameLayer(a, b) {
  const { mine, theirs, different } = differences(a, b);
  return a.reviewed === b.reviewed && mine + theirs + different === 0;
}
