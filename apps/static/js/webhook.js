// While a message waits for its next try, the list of messages is asked for again and put in place of
// the old one; what became of the latest message is said.

import { localTimes } from "./page.js";

const EVERY_MS = 1000;
const LOOKS = 180; // a tab that is left open asks no longer
const list = () => document.querySelector("[data-messages]");
const latest = document.querySelector("[data-latest]");
let looks = 0;

async function renew() {
  try {
    const answer = await fetch(list().dataset.url, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-messages]");
    const held = list().contains(document.activeElement); // a key must not lose its button
    if (answer.ok && fresh && !(held && fresh.hasAttribute("data-live"))) {
      list().replaceWith(fresh);
      localTimes(fresh);
      const state = fresh.querySelector("[data-state]")?.innerText.trim() ?? "";
      if (latest.textContent !== state) latest.textContent = state;
    }
  } catch {
    // offline: the next look may reach the server
  }
  later();
}

function later() {
  looks += 1;
  if (looks <= LOOKS && list().hasAttribute("data-live")) setTimeout(renew, EVERY_MS);
}

later();
