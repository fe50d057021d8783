// Keeps the numbers of the status page fresh while somebody looks at it.

import { localTimes } from "./page.js";

const POLL_MS = 5000;
const bar = document.querySelector("[data-status]");
const pause = bar.querySelector("[data-pause]");
const note = (name) => bar.querySelector(`[data-${name}]`);
let wake = () => {};
let away = false;

const paused = () => pause.getAttribute("aria-pressed") === "true";

function showState() {
  note("paused").hidden = !paused();
  note("away").hidden = paused() || !away;
  note("live").hidden = paused() || away;
}

function showTexts(texts) {
  for (const place of document.querySelectorAll("[data-text]")) {
    const text = texts[place.dataset.text];
    if (text === undefined || text === place.textContent) continue;
    place.textContent = text;
    // Starts the fade once more; style sheets leave it out for those who want less motion.
    place.classList.remove("is-fresh");
    void place.offsetWidth;
    place.classList.add("is-fresh");
  }
}

// Lists and cards change rarely: then they are taken from the page itself, as the server makes it.
async function refreshParts(marks) {
  const old = [...document.querySelectorAll("[data-part]")].filter(
    (part) => marks[part.dataset.part] !== part.dataset.mark && !part.contains(document.activeElement),
  );
  if (!old.length) return;
  const answer = await fetch(bar.dataset.page);
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of old) {
    const fresh = page.querySelector(`[data-part="${part.dataset.part}"]`);
    if (fresh) part.replaceWith(document.adoptNode(fresh));
  }
  localTimes();
}

async function poll() {
  const answer = await fetch(bar.dataset.url, { headers: { Accept: "application/json" } });
  if (answer.redirected || answer.status === 403) return location.reload(); // logged out meanwhile
  if (!answer.ok) throw new Error(answer.status);
  const state = await answer.json();
  if (paused()) return;
  showTexts(state.texts);
  await refreshParts(state.marks);
}

async function follow() {
  for (;;) {
    await new Promise((resume) => {
      wake = resume;
      setTimeout(resume, POLL_MS);
    });
    if (document.hidden || paused()) continue;
    away = await poll().then(() => false, () => true);
    showState();
  }
}

pause.addEventListener("click", () => {
  pause.setAttribute("aria-pressed", String(!paused()));
  showState();
  if (!paused()) wake();
});
document.addEventListener("visibilitychange", () => wake());
bar.hidden = false;
follow();
