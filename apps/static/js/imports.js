// Pages of imports: the upload, and bars that follow what the server does.

import { uploadOne } from "./one-upload.js";

const POLL_MS = 1200;
const form = document.querySelector("[data-one-upload]");
if (form) uploadOne(form, form.dataset.oneUpload);

const list = document.querySelector("[data-follow]");
const busy = () => [...(list?.querySelectorAll("[data-import]") ?? [])];

// Whether one of them has another state by now, for which the page has other parts.
function show(imports) {
  return busy().some((item) => {
    const state = imports[item.dataset.import];
    if (state?.status !== item.dataset.status) return true;
    item.querySelector("[data-progress]").value = state.progress;
    const line = item.querySelector("[data-status-text]");
    if (line.textContent !== state.text) line.textContent = state.text;
    return false;
  });
}

const uploading = () => form?.querySelector("[data-send]").disabled;

async function follow() {
  while (busy().length) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    if (document.hidden || uploading()) continue;
    const asked = new URLSearchParams(busy().map((item) => ["id", item.dataset.import]));
    const answer = await fetch(`${list.dataset.follow}?${asked}`).catch(() => null);
    if (!answer?.ok || answer.redirected) continue;
    const { imports } = await answer.json();
    if (show(imports)) return location.reload();
  }
}

follow();
