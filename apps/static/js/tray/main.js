// Uploads on every page of a person who is logged in. Idle, it only listens and looks once whether
// an earlier page left something to do.

import { Queue } from "./queue.js";
import { listen } from "./sources.js";
import { View } from "./view.js";

const GALLERY_MS = 3000; // between two looks of the gallery at what is new
const INSIDE_MS = 2000; // a page of this site follows a click by then
const root = document.querySelector("[data-tray]");

const site = {
  account: root.dataset.account,
  url: root.dataset.url,
  sessionUrl: root.dataset.sessionUrl,
  maxBytes: Number(root.dataset.maxBytes),
  maxRequest: Number(root.dataset.maxRequest),
  token: document.querySelector('meta[name="csrf-token"]').content,
  texts: JSON.parse(document.querySelector("[data-tray-texts]").textContent),
  fresh: true, // this page was made for this account a moment ago
};

const queue = new Queue(site);
const view = new View(root, queue);
const started = queue.start().then(() => view.started());
let alone = null; // the one file that its page is opened for when it is up

async function take({ files, leftOut }) {
  if (leftOut) view.note(site.texts.leftOut.replace("%(count)s", leftOut));
  if (!files.length) return;
  await started;
  const idle = !queue.unfinished().length;
  const items = queue.add(files);
  alone = idle && items.length === 1 && document.querySelector("[data-dropzone]") ? items[0].id : null;
  view.opened();
}

listen(site.texts, take);

// -- what is new, for the gallery -------------------------------------------------------------

let fresh = [];
let timer = null;

function tell() {
  timer = null;
  if (!fresh.length) return;
  const ids = fresh;
  fresh = [];
  document.dispatchEvent(new CustomEvent("sightbox:uploaded", { detail: { ids, left: queue.unfinished().length } }));
}

queue.addEventListener("change", ({ detail: { done } }) => {
  if (!done) return;
  if (done.id === alone && done.result.ids.length === 1 && done.result.url) {
    inside = performance.now();
    location.assign(done.result.url);
    return;
  }
  if (!done.result.ids.length) return;
  fresh.push(...done.result.ids);
  const finished = !queue.unfinished().length;
  if (finished) clearTimeout(timer);
  if (finished) tell();
  else timer ??= setTimeout(tell, GALLERY_MS);
});

// -- leaving ----------------------------------------------------------------------------------

let inside = -Infinity; // when a way to another page of this site was last taken

function goesInside(address) {
  if (new URL(address, location.href).origin === location.origin) inside = performance.now();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (link && !event.defaultPrevented && !link.target && !link.hasAttribute("download")) goesInside(link.href);
});
document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) goesInside(event.target.action);
});
window.navigation?.addEventListener("navigate", (event) => {
  if (!event.hashChange && event.downloadRequest === null) goesInside(event.destination.url);
});
window.addEventListener("beforeunload", (event) => {
  const onward = performance.now() - inside < INSIDE_MS;
  if (queue.wouldLose || (queue.busy && !onward)) event.preventDefault();
});

// Whoever logs out leaves nothing of theirs in the browser; the next one may be somebody else.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[action$='/auth/logout']") || !queue.items.size) return;
  event.preventDefault();
  if (queue.unfinished().length && !confirm(site.texts.logout)) return;
  await queue.clear();
  inside = performance.now();
  form.submit();
});
