// Files chosen or dropped anywhere on the page go up three at a time, each with its own progress.

import { onFilesDropped } from "./drop.js";

const PARALLEL = 3;
const form = document.querySelector("[data-dropzone]");
const list = form.querySelector("[data-upload-list]");
const input = form.querySelector("input[type=file]");
const text = form.dataset;
const token = () => document.querySelector('meta[name="csrf-token"]').content;

const waiting = [];
const total = { running: 0, failed: 0, good: [] };

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "upload-name";
  name.textContent = file.name;
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", file.name);
  const state = document.createElement("span");
  state.className = "upload-state";
  state.textContent = text.textWaiting;
  item.append(name, bar, state);
  list.append(item);
  return { file, item, bar, state };
}

function add(files) {
  if (!files.length) return;
  list.hidden = false;
  document.querySelector(".empty")?.remove();
  for (const file of files) {
    const entry = row(file);
    if (file.size > Number(text.maxBytes)) fail(entry, text.textTooLarge, false);
    else waiting.push(entry);
  }
  pump();
}

function pump() {
  while (total.running < PARALLEL && waiting.length) send(waiting.shift());
  if (!total.running && !waiting.length) finish();
}

function send(entry) {
  total.running += 1;
  const body = new FormData();
  body.append("image", entry.file, entry.file.name);
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRFToken", token());
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) entry.bar.value = event.loaded / event.total;
  });
  request.addEventListener("load", () => settle(entry, request));
  request.addEventListener("error", () => fail(entry, text.textOffline, true));
  request.addEventListener("loadend", () => {
    total.running -= 1;
    pump();
  });
  request.send(body);
}

function settle(entry, request) {
  const outcome = request.response?.results?.[0];
  if (outcome?.ok) return succeed(entry, outcome);
  if (outcome) return fail(entry, outcome.message, false);
  if (request.status === 401) return fail(entry, text.textSession, true);
  const reason = request.response?.error?.message ?? text.textFailed.replace("{status}", request.status);
  return fail(entry, reason, true);
}

function succeed(entry, outcome) {
  total.good.push(outcome);
  entry.item.className = "is-done";
  entry.bar.value = 1;
  const link = document.createElement("a");
  link.href = outcome.url;
  link.textContent = text.textDone;
  entry.state.replaceChildren(link);
}

function fail(entry, reason, again) {
  total.failed += 1;
  entry.item.className = "is-failed";
  entry.bar.remove();
  entry.state.textContent = reason;
  if (!again) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm btn-outline-primary";
  button.textContent = text.textRetry;
  button.addEventListener("click", () => {
    total.failed -= 1;
    entry.item.remove();
    add([entry.file]);
  });
  entry.state.append(" ", button);
}

// One good file: its page. Several: the gallery. Anything refused: stay, so that it can be read.
function finish() {
  if (!total.failed && total.good.length === 1) location.assign(total.good[0].url);
  else if (!total.failed && total.good.length) location.assign(text.gallery);
  else showGood();
}

// The good ones appear in the gallery below, and are followed there; elsewhere a link leads to it.
async function showGood() {
  form.querySelector("[data-upload-done]").hidden = !total.good.length;
  const gallery = document.querySelector("[data-gallery-view]");
  if (!gallery || !total.good.length) return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["[data-total]", "[data-waiting]", "[data-gallery-view]"]) {
    const fresh = page.querySelector(part);
    if (fresh) document.querySelector(part)?.replaceWith(fresh);
  }
  form.querySelector("[data-upload-done]").hidden = true;
  document.dispatchEvent(new CustomEvent("sightbox:uploaded"));
}

input.addEventListener("change", () => {
  add([...input.files]);
  input.value = "";
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  input.click();
});
form.querySelector("[data-plain-submit]").hidden = true;
form.classList.add("is-enhanced");

onFilesDropped(add);
window.addEventListener("beforeunload", (event) => {
  if (total.running || waiting.length) event.preventDefault();
});
