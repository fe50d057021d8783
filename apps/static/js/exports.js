// While an export waits or runs, its list is asked for again and put in place of the old one.

import { localTimes } from "./page.js";

const EVERY_MS = 2000;
const list = () => document.querySelector("[data-exports]");

async function renew() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-exports]");
    const old = list();
    const held = old.contains(document.activeElement); // a key must not lose its button
    if (answer.ok && fresh && !(held && fresh.hasAttribute("data-live"))) {
      old.replaceWith(fresh);
      localTimes(fresh);
    }
  } catch {
    // offline: the next look may reach the server
  }
  later();
}

function later() {
  if (list()?.hasAttribute("data-live")) setTimeout(renew, EVERY_MS);
}

later();
