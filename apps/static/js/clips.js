// The list of clips: an upload with progress, and bars that follow what the server does.

import { onFilesDropped } from "./drop.js";
import { localTimes } from "./page.js";

const POLL_MS = 1500;
const form = document.querySelector("[data-clip-form]");
const text = form.dataset;
const status = form.querySelector("[data-upload-status]");
const sending = form.querySelector("[data-sending]");
const bar = sending.querySelector("progress");
const token = () => document.querySelector('meta[name="csrf-token"]').content;

// -- upload -----------------------------------------------------------------------------------

let request = null;

function say(reason, bad = false) {
  status.hidden = !reason;
  status.textContent = reason;
  status.classList.toggle("text-danger-emphasis", bad);
}

function end(reason) {
  request = null;
  sending.hidden = true;
  form.querySelector("[data-send]").disabled = false;
  say(reason, true);
}

function send(event) {
  event.preventDefault();
  if (request || !form.reportValidity()) return;
  const file = form.elements.clip.files[0];
  if (!file) return form.elements.clip.click();
  if (file.size > Number(text.maxBytes)) return say(text.textTooLarge, true);
  request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRFToken", token());
  request.responseType = "json";
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = total ? loaded / total : 0;
    say(loaded < total ? text.textSending.replace("{percent}", Math.floor((100 * loaded) / total)) : text.textReading);
  });
  request.addEventListener("load", settle);
  request.addEventListener("error", () => end(text.textOffline));
  request.addEventListener("abort", () => end(text.textCancelled));
  bar.value = 0;
  sending.hidden = false;
  form.querySelector("[data-send]").disabled = true;
  request.send(new FormData(form));
}

function settle() {
  const { status: code, response } = request;
  if (code === 401) return end(text.textSession);
  if (code !== 201) return end(response?.error?.message ?? text.textFailed.replace("{status}", code));
  request = null; // so that leaving the page needs no question
  location.assign(response.url);
}

form.addEventListener("submit", send);
form.querySelector("[data-stop]").addEventListener("click", () => request?.abort());
onFilesDropped(([file]) => {
  if (!file || request) return;
  const chosen = new DataTransfer();
  chosen.items.add(file);
  form.elements.clip.files = chosen.files;
  form.querySelector("[data-send]").focus();
});
window.addEventListener("beforeunload", (event) => {
  if (request) event.preventDefault();
});

// -- following --------------------------------------------------------------------------------

const waiting = () => [...document.querySelectorAll("[data-clip][data-follow]")];

// What has ended, or begun, is shown as the server writes it.
async function renew() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of waiting()) {
    const fresh = page.getElementById(old.id);
    if (!fresh) old.remove();
    else if (fresh.dataset.status !== old.dataset.status) old.replaceWith(fresh);
  }
  localTimes();
}

function show(item, state) {
  item.querySelector("[data-progress]").value = state.progress;
  const line = item.querySelector("[data-status-text]");
  if (line.textContent !== state.text) line.textContent = state.text;
}

async function follow() {
  const list = document.querySelector("[data-clips]");
  while (list && waiting().length) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    if (document.hidden) continue;
    const asked = new URLSearchParams(waiting().slice(0, 200).map((item) => ["id", item.dataset.clip]));
    const answer = await fetch(`${list.dataset.statusUrl}?${asked}`).catch(() => null);
    if (!answer?.ok || answer.redirected) continue;
    const { clips } = await answer.json();
    let changed = false;
    for (const item of waiting()) {
      const state = clips[item.dataset.clip];
      if (state && state.status === item.dataset.status) show(item, state);
      else changed = true;
    }
    if (changed) await renew();
  }
}

follow();
