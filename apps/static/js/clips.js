// The list of clips: an upload with progress, and bars that follow what the server does.

import { uploadOne } from "./one-upload.js";
import { localTimes } from "./page.js";

const POLL_MS = 1500;

uploadOne(document.querySelector("[data-clip-form]"), "clip");

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
