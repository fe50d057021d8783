// A form that sends one large file, with its progress and a way to stop. Texts are in data-text-*.

import { onFilesDropped } from "./drop.js";

const token = () => document.querySelector('meta[name="csrf-token"]').content;

// `name` is that of the field with the file; the answer to a good upload has its page as "url".
export function uploadOne(form, name) {
  const text = form.dataset;
  const status = form.querySelector("[data-upload-status]");
  const sending = form.querySelector("[data-sending]");
  const bar = sending.querySelector("progress");
  const button = form.querySelector("[data-send]");
  let request = null;

  function say(reason, bad = false) {
    status.hidden = !reason;
    status.textContent = reason;
    status.classList.toggle("text-danger-emphasis", bad);
  }

  function end(reason) {
    request = null;
    sending.hidden = true;
    button.disabled = false;
    say(reason, true);
  }

  function settle() {
    const { status: code, response } = request;
    if (code === 401) return end(text.textSession);
    if (code !== 201) return end(response?.error?.message ?? text.textFailed.replace("{status}", code));
    request = null; // so that leaving the page needs no question
    location.assign(response.url);
  }

  function send(event) {
    event.preventDefault();
    if (request || !form.reportValidity()) return;
    const [file] = form.elements[name].files;
    if (!file) return form.elements[name].click();
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
    button.disabled = true;
    request.send(new FormData(form));
  }

  form.addEventListener("submit", send);
  form.querySelector("[data-stop]").addEventListener("click", () => request?.abort());
  onFilesDropped(([file]) => {
    if (!file || request) return;
    const chosen = new DataTransfer();
    chosen.items.add(file);
    form.elements[name].files = chosen.files;
    button.focus();
  });
  window.addEventListener("beforeunload", (event) => {
    if (request) event.preventDefault();
  });
}
