// The picture page: starts the viewer and editor, and follows a detection until it settles.

import { localTimes } from "./page.js";
import { continueWalking } from "./picture/actions.js";
import { PicturePage } from "./picture/app.js";

const POLL_MS = 1000;
const result = () => document.getElementById("result");
const texts = JSON.parse(document.querySelector("[data-texts]").textContent);
let page = new PicturePage(result(), texts);
continueWalking(page);

const isTyping = () => result().contains(document.activeElement?.closest("input[type=text], input:not([type])") ?? null);

async function follow() {
  while (!["done", "failed"].includes(result().dataset.status)) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    if (document.hidden || isTyping() || page.gestures.drag || page.conflict.open) continue;
    const answer = await fetch(result().dataset.resultUrl).catch(() => null);
    if (answer?.status === 404) return location.reload();
    if (!answer?.ok) continue;
    const fresh = document.createElement("template");
    fresh.innerHTML = await answer.text();
    const next = fresh.content.getElementById("result");
    if (!next) return location.reload(); // logged out meanwhile
    if (next.dataset.status === result().dataset.status || page.saver.wanted) continue;
    // The picture is the same: keep its element, so that nothing flickers.
    next.querySelector("img").replaceWith(result().querySelector("img"));
    page.end();
    result().replaceWith(next);
    page = new PicturePage(next, texts);
    localTimes(next);
  }
}

follow();
