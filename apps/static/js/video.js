// The page of a clip: its boxes over it while it plays, and what was found so far while it is looked at.

import { scaleLabels, showThreshold } from "./boxes.js";
import { drawBoxes, keepLabelSize } from "./overlay.js";
import { Timeline, clock, segmentsOf } from "./timeline.js";

const POLL_MS = 1000;
const root = document.querySelector("[data-watch]");
const text = root.dataset;
const part = (name) => root.querySelector(`[data-${name}]`);
const video = part("video");
const still = part("still");
const svg = part("boxes");
const position = part("position");
const duration = Math.max(1, Number(text.duration));

const frames = []; // {n, t, boxes}, in order
const colors = new Map();
const hidden = new Set();
let step = 200; // milliseconds between two frames that are looked at
let playable = true;
let shown = null; // the frame whose boxes are drawn

const threshold = () => Number(part("threshold").value);
const visible = (box) => box.score >= threshold() && !hidden.has(box.label);

// -- frames -----------------------------------------------------------------------------------

function take(found) {
  for (const [label, color] of Object.entries(found.colors)) colors.set(label, color);
  for (const { n, t, b } of found.frames) {
    const boxes = b.map(([label, score, ...box]) => ({ label, score, box, color: colors.get(label) }));
    frames.push({ n, t, boxes });
  }
  if (frames.length > 1) step = Math.max(1, (frames.at(-1).t - frames[0].t) / (frames.length - 1));
  position.max = Math.max(0, frames.length - 1);
}

// Place in ``frames`` of the last one at or before this time; -1: none.
function placeAt(milliseconds) {
  let low = 0;
  let high = frames.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (frames[middle].t <= milliseconds + 1) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// -- the picture ------------------------------------------------------------------------------

function draw(frame) {
  shown = frame;
  drawBoxes(svg, frame ? frame.boxes.filter(visible) : [], Number(text.width));
}

function showTime(milliseconds) {
  const place = placeAt(milliseconds);
  const frame = frames[place];
  // Behind the last frame that was looked at so far, nothing is known.
  const known = frame && milliseconds < frame.t + Math.max(2 * step, 100);
  if ((known ? frame : null) !== shown) draw(known ? frame : null);
  if (frame) position.value = place;
  position.setAttribute("aria-valuetext", clock(milliseconds));
  part("clock").textContent = clock(milliseconds);
  timeline.place(milliseconds);
}

function showStill(place) {
  const frame = frames[place];
  if (!frame) return;
  still.src = text.frameUrl.replace("{number}", frame.n);
  showTime(frame.t);
}

function seek(milliseconds) {
  if (playable) {
    video.currentTime = Math.max(0, milliseconds + 1) / 1000;
    showTime(milliseconds);
  } else showStill(Math.max(0, placeAt(milliseconds)));
}

function unplayable() {
  if (!playable) return;
  playable = false;
  video.hidden = true;
  still.hidden = false;
  still.src = video.poster;
  part("unplayable").hidden = false;
  showStill(0);
  scaleLabels(root);
}

function followPlayback() {
  if (video.requestVideoFrameCallback) {
    const each = (_now, { mediaTime }) => {
      showTime(1000 * mediaTime);
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }
  for (const name of ["timeupdate", "seeked"]) {
    video.addEventListener(name, () => {
      if (!video.requestVideoFrameCallback || video.paused) showTime(1000 * video.currentTime);
    });
  }
  video.addEventListener("error", unplayable);
  video.addEventListener("loadedmetadata", () => video.videoWidth || unplayable());
  if (video.error || (video.readyState && !video.videoWidth)) unplayable();
}

// -- classes and timeline ---------------------------------------------------------------------

const timeline = new Timeline(part("timeline"), {
  duration,
  colorOf: (label) => colors.get(label) ?? 0,
  describe: (label, { start, end, count }) =>
    text.textSegment.replace("{label}", label).replace("{start}", clock(start)).replace("{end}", clock(end)).replace("{count}", count),
  seek,
});

function chip(label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `chip clip-chip c${colors.get(label) ?? 0}`;
  button.dataset.label = label;
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  button.append(swatch, label);
  return button;
}

function chips(rows) {
  const list = part("classes");
  const labels = [...rows.keys()].sort();
  const there = [...list.children].map((button) => button.dataset.label);
  if (labels.join("\0") !== there.join("\0")) list.replaceChildren(...labels.map(chip));
  for (const button of list.children) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.label)));
}

let due = false;
function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const rows = segmentsOf(frames, threshold(), step, duration);
    chips(rows);
    const count = timeline.draw(rows, hidden);
    part("timeline-empty").hidden = count > 0;
    part("nothing").hidden = rows.size > 0 || !frames.length;
    draw(shown);
  });
}

part("classes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { label } = button.dataset;
  if (event.altKey) {
    const only = [...part("classes").children].every((b) => b === button || hidden.has(b.dataset.label));
    for (const { dataset } of part("classes").children) {
      if (only || dataset.label === label) hidden.delete(dataset.label);
      else hidden.add(dataset.label);
    }
  } else if (!hidden.delete(label)) hidden.add(label);
  redraw();
});
part("threshold").addEventListener("input", () => {
  showThreshold(root, threshold());
  redraw();
});
position.addEventListener("input", () => {
  const frame = frames[position.value];
  if (frame) seek(frame.t);
});
part("stepper").addEventListener("click", (event) => {
  const button = event.target.closest("[data-step]");
  if (!button || !frames.length) return;
  if (playable) video.pause();
  const now = playable ? placeAt(1000 * video.currentTime) : Number(position.value);
  const place = Math.min(frames.length - 1, Math.max(0, now + Number(button.dataset.step)));
  position.value = place;
  seek(frames[place].t);
});
part("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else part("stage").requestFullscreen?.();
});

// -- following --------------------------------------------------------------------------------

function progress(found) {
  part("running").hidden = found.settled;
  part("again").disabled = !found.settled;
  part("progress").value = found.progress;
  if (part("status-text").textContent !== found.text) part("status-text").textContent = found.text;
}

async function load() {
  let settled = false;
  while (!settled) {
    if (document.hidden && frames.length) {
      await new Promise((resume) => document.addEventListener("visibilitychange", resume, { once: true }));
    }
    const answer = await fetch(`${text.framesUrl}?after=${frames.at(-1)?.n ?? -1}`).catch(() => null);
    if (answer?.status === 404 || answer?.redirected) return location.reload();
    if (answer?.ok) {
      const found = await answer.json();
      take(found);
      progress(found);
      redraw();
      if (found.more) continue;
      settled = found.settled;
    } else part("status-text").textContent = text.textOffline;
    if (!settled) await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
  if (text.settled === "false") {
    part("ended").textContent = part("status-text").textContent;
    part("ended").hidden = false;
  }
  showTime(playable ? 1000 * video.currentTime : (frames[position.value]?.t ?? 0));
}

followPlayback();
keepLabelSize(root, part("stage"));
load();
