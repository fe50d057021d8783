// The page of the camera: one frame at a time goes to the server, its boxes come over the picture.

import { listCameras, looksAtUser, mayAsk, openCamera, reasonOf } from "./camera.js";
import { drawBoxes, keepLabelSize } from "./overlay.js";
import { scaleLabels } from "./boxes.js";

const SIDE = 960; // pixels of a sent frame, longest side
const TIMEOUT_MS = 30_000;
const RETRY_S = 3; // after the connection broke
const SMOOTH = 10; // answers over which the numbers are averaged

const root = document.querySelector("[data-live]");
const text = root.dataset;
const part = (name) => root.querySelector(`[data-${name}]`);
const camera = part("camera");
const svg = part("boxes");
const canvas = document.createElement("canvas");
const token = () => document.querySelector('meta[name="csrf-token"]').content;
const wait = (seconds) => new Promise((resume) => setTimeout(resume, 1000 * seconds));

let stream = null;
let run = 0; // which start this is: an older loop ends by itself
let paused = false;
let resume = () => {};
let last = { boxes: [], width: 4, height: 3 };
let times = []; // {at, latency} of the last answers, milliseconds

const say = (reason) => {
  if (part("status").textContent !== reason) part("status").textContent = reason;
};

// -- the camera -------------------------------------------------------------------------------

async function start() {
  stop();
  if (!mayAsk()) return say(text.textInsecure);
  const mine = (run += 1);
  const choice = part("cameras").value;
  say(text.textAsking);
  try {
    const opened = await openCamera(choice);
    if (mine !== run) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
  } catch (error) {
    return say(text[reasonOf(error)]);
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (mine !== run) return;
    stop();
    say(text.textLost);
  });
  part("mirror").checked = looksAtUser(stream, choice);
  mirror();
  camera.srcObject = stream;
  await camera.play().catch(() => {});
  part("start-cover").hidden = true;
  for (const name of ["pause", "snapshot", "stop"]) part(name).disabled = false;
  setPaused(false);
  say(text.textLoading);
  listCameras(part("cameras"), text).catch(() => {});
  look(mine);
}

function stop() {
  run += 1;
  resume();
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  camera.srcObject = null;
  times = [];
  show({ boxes: [], width: 4, height: 3 });
  numbers();
  part("start-cover").hidden = false;
  for (const name of ["pause", "snapshot", "stop"]) part(name).disabled = true;
  say("");
}

function setPaused(value) {
  paused = value;
  part("pause").setAttribute("aria-pressed", String(paused));
  part("pause").querySelector("span").textContent = paused ? text.textGoOn : text.textPause;
  part("pause").querySelector(".bi").className = `bi bi-${paused ? "play" : "pause"}-fill`;
  if (paused) camera.pause();
  else camera.play().catch(() => {});
  if (paused) say(text.textPaused);
  resume();
}

// -- one frame at a time ----------------------------------------------------------------------

// Until there is something to look at: not paused, not in a hidden tab, a new frame.
async function ready(mine) {
  while (mine === run && (paused || document.hidden || !camera.videoWidth)) {
    await new Promise((go) => {
      resume = go;
      if (!paused && !document.hidden) setTimeout(go, 50);
    });
    times = []; // the pause is no part of the speed
  }
  if (mine !== run || !camera.requestVideoFrameCallback) return;
  await new Promise((go) => {
    resume = go;
    camera.requestVideoFrameCallback(go);
  });
}

function frame(side, quality) {
  const scale = Math.min(1, side / Math.max(camera.videoWidth, camera.videoHeight));
  canvas.width = Math.round(camera.videoWidth * scale);
  canvas.height = Math.round(camera.videoHeight * scale);
  canvas.getContext("2d").drawImage(camera, 0, 0, canvas.width, canvas.height);
  return new Promise((give) => canvas.toBlob(give, "image/jpeg", quality));
}

async function look(mine) {
  while (mine === run) {
    await ready(mine);
    if (mine !== run || paused || document.hidden) continue;
    const taken = performance.now();
    const answer = await ask(await frame(SIDE, 0.8)).catch(() => null);
    if (mine !== run) return;
    const seconds = await settle(answer, taken);
    if (seconds) await wait(seconds);
  }
}

function ask(blob) {
  const body = new FormData();
  body.append("frame", blob, "frame.jpg");
  const model = part("model")?.value;
  if (model) body.append("model", model);
  const headers = { Accept: "application/json", "X-CSRFToken": token() };
  return fetch(text.detectUrl, { method: "POST", body, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
}

// Shows the answer; seconds to wait before the next frame.
async function settle(answer, taken) {
  const found = await answer?.json().catch(() => null);
  if (answer?.ok && found) {
    times = [...times, { at: performance.now(), latency: performance.now() - taken }].slice(-SMOOTH);
    if (!paused) say(text.textRunning);
    show(found);
    numbers();
    return 0;
  }
  times = [];
  if (!answer || !found) {
    say(text.textOffline);
    return RETRY_S;
  }
  if (answer.status === 401 || answer.redirected) {
    stop();
    say(text.textSession);
    return 0;
  }
  const seconds = Number(answer.headers.get("Retry-After")) || 0;
  const again = answer.status === 429 || (answer.status === 503 && seconds);
  if (again) {
    say(text.textBusy.replace("{seconds}", seconds || RETRY_S));
    return seconds || RETRY_S;
  }
  stop(); // nothing that trying again would change
  say(found.error?.message ?? text.textOffline);
  return 0;
}

// -- what is seen -----------------------------------------------------------------------------

const threshold = () => Number(part("threshold").value);

function show(found) {
  last = found;
  const { width, height } = found;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const boxes = found.boxes.filter((box) => box.score >= threshold());
  drawBoxes(svg, boxes, width, part("mirror").checked);
  scaleLabels(root);
  chips(boxes);
}

function chips(boxes) {
  const counts = new Map();
  for (const { label, color } of boxes) counts.set(label, { color, count: (counts.get(label)?.count ?? 0) + 1 });
  const found = [...counts].map(([label, { color, count }]) => {
    const chip = document.createElement("span");
    chip.className = `chip c${color}`;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const number = document.createElement("b");
    number.textContent = count;
    chip.append(swatch, label, " ", number);
    return chip;
  });
  part("seen").replaceChildren(...found);
}

function numbers() {
  const latest = times.at(-1);
  const span = times.length > 1 ? latest.at - times[0].at : 0;
  const rate = span ? ((1000 * (times.length - 1)) / span).toFixed(1) : "–";
  const latency = times.length ? Math.round(times.reduce((sum, time) => sum + time.latency, 0) / times.length) : "–";
  part("numbers").hidden = !times.length;
  part("rate").textContent = text.textRate.replace("{rate}", rate);
  part("latency").textContent = text.textLatency.replace("{milliseconds}", latency);
}

function mirror() {
  camera.classList.toggle("is-mirrored", part("mirror").checked);
  show(last);
}

// -- snapshot ---------------------------------------------------------------------------------

async function snapshot() {
  part("snapshot").disabled = true;
  const body = new FormData();
  const name = new Date().toISOString().slice(0, 19).replaceAll(":", ".").replace("T", " ");
  body.append("image", await frame(Infinity, 0.92), `camera ${name}.jpg`);
  const headers = { Accept: "application/json", "X-CSRFToken": token() };
  const answer = await fetch(text.uploadUrl, { method: "POST", body, headers }).catch(() => null);
  const outcome = (await answer?.json().catch(() => null))?.results?.[0];
  part("snapshot").disabled = !stream;
  const line = document.createElement("p");
  line.className = "live-saved";
  line.setAttribute("role", "status");
  line.textContent = outcome?.ok ? `${text.textSnapshot} ` : (outcome?.message ?? text.textOffline);
  if (outcome?.ok) {
    const link = document.createElement("a");
    link.href = outcome.url;
    link.textContent = text.textShow;
    line.append(link);
  }
  root.querySelector(".live-saved")?.remove();
  part("status").after(line);
}

part("start").addEventListener("click", start);
part("stop").addEventListener("click", () => {
  stop();
  part("start").focus();
});
part("pause").addEventListener("click", () => setPaused(!paused));
part("snapshot").addEventListener("click", snapshot);
part("cameras").addEventListener("change", () => stream && start());
part("mirror").addEventListener("change", mirror);
part("threshold").addEventListener("input", () => {
  part("threshold-output").textContent = `${Math.round(100 * threshold())} %`;
  show(last);
});
document.addEventListener("visibilitychange", () => resume());
window.addEventListener("pagehide", stop);
keepLabelSize(root, part("stage"));
numbers();
if (!mayAsk()) say(text.textInsecure);
