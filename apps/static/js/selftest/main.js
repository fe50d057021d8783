// The self-test: this browser asks the server as a program does, without a cookie, and says what
// came of it. Without a token of the person's it borrows one, which ends with the test.

import { localTimes } from "../page.js";
import { CALLS, picture } from "./calls.js";
import { causeOf } from "./causes.js";
import { details } from "./show.js";

const PATIENCE_MS = 90_000; // the first picture may load a model
const root = document.querySelector("[data-self-root]");
const texts = JSON.parse(root.querySelector("[data-self-texts]").textContent);
const field = document.getElementById("token");

// A request of this page itself: with the cookie, and with the token of its forms.
async function own(path, fields = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  const headers = { Accept: "application/json", "X-CSRFToken": document.querySelector('meta[name="csrf-token"]').content };
  const answer = await fetch(`${root.dataset.url}/test/${path}`, { method: "POST", headers, body });
  if (answer.status === 204) return null;
  const found = parsed(await answer.text());
  const { status, ok } = answer;
  if (found && ok) return found;
  if (found?.error?.message) throw new Error(found.error.message);
  // A proxy's page, as one to log in: not from Sightbox, whatever its status is.
  throw new Error((await causeOf({ status, path: `${root.dataset.url}/test/${path}` }, { texts })).join(" "));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function addressOf(text) {
  try {
    return new URL(text, location.origin);
  } catch {
    return null;
  }
}

async function ask(call) {
  const started = performance.now();
  const result = (values) => ({ ...call, ...values, ms: performance.now() - started });
  const how = { mode: "same-origin", credentials: "omit", redirect: "manual", cache: "no-store", referrerPolicy: "no-referrer" };
  try {
    const response = await fetch(call.path, { ...how, ...call.options, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.type === "opaqueredirect") return result({ failure: "redirect" });
    const text = await response.text();
    const { status, statusText } = response;
    return result({ status, statusText, text, body: parsed(text), wait: Number(response.headers.get("Retry-After")) });
  } catch (error) {
    return result({ failure: error.name === "TimeoutError" ? "timeout" : "network" });
  }
}

function isGood({ status, body, good }) {
  return status === 200 && body && typeof body === "object" && good(body);
}

// The settings of this page say where programs ask; behind a proxy that can be wrong.
function otherAddress(said) {
  return new URL(said).origin === location.origin ? null : texts.address.replace("{said}", new URL(said).origin).replace("{here}", location.origin);
}

class Test {
  constructor(place) {
    this.place = place;
    this.button = place.querySelector("[data-self-start]");
    this.verdict = place.querySelector("[data-self-verdict]");
    this.list = place.querySelector("[data-self-details]");
    this.studio = place.querySelector("[data-self-address]");
    place.hidden = false;
    this.button.addEventListener("click", (event) => { event.preventDefault(); this.run(); });
  }

  say(kind, text) {
    this.verdict.className = `api-verdict is-${kind}`;
    this.verdict.textContent = text;
  }

  async run() {
    if (this.button.disabled) return;
    this.button.disabled = true;
    this.list.replaceChildren();
    root.querySelector("[data-self-old]")?.remove();
    this.say("busy", texts.asking);
    try {
      await (this.studio ? this.askStudio() : this.askWithToken());
    } catch (error) {
      this.say("bad", `${texts.notBegun} ${error.message}`);
    }
    await renewCalls();
    this.button.disabled = false;
    this.button.focus({ preventScroll: true });
  }

  async askWithToken() {
    const given = field.value.trim();
    const why = async () => (await own("why", { token: given })).reason;
    // What no header can hold is no token: a browser would refuse to send it.
    if (/[^\x21-\x7e]/.test(given)) return this.say("bad", `${await why()} ${texts.tokenNext}`);
    const borrowed = given ? null : await own("begin");
    const cap = async () => (borrowed ? null : (await own("cap", { token: given })).max_boxes); // null: none
    try {
      const image = await picture();
      const model = this.place.closest("details")?.querySelector("[name=model]")?.value;
      const said = { token: given || borrowed.token, image, model };
      await this.askAll(this.place.dataset.self.split(" "), said, { borrowed, why, cap });
    } finally {
      if (borrowed) await own(`${borrowed.id}/end`).catch(() => {}); // it ends by itself too
    }
  }

  async askStudio() {
    const address = addressOf(this.studio.value.trim());
    const secret = address?.pathname.match(/^\/labelstudio\/([^/]+)\/?$/)?.[1];
    if (!secret) return this.say("bad", texts.studioAddress);
    await this.askAll(["labelstudio"], { secret }, {});
  }

  // A program that has room for so many boxes needs a token that lets no more through.
  async tooMany(cap) {
    const most = Number(this.place.dataset.selfMost);
    const allowed = most ? await cap() : most;
    return allowed === null || allowed > most ? texts.boxes.replaceAll("{most}", most) : null;
  }

  async askAll(kinds, said, context) {
    const results = [];
    for (const kind of kinds) {
      const result = await ask(await CALLS[kind](said));
      if (!isGood(result)) result.cause = await causeOf(result, { texts, ...context });
      results.push(result);
      this.list.append(details(result, texts, kinds.length > 1));
    }
    const bad = results.find((result) => result.cause);
    const elsewhere = otherAddress(root.dataset.address);
    const doubts = [elsewhere, bad ? null : await this.tooMany(context.cap)].filter(Boolean);
    if (bad) this.say("bad", [texts.failed, bad.cause[0], ...(kinds.length > 1 ? [] : [bad.cause[1]])].join(" "));
    else if (doubts.length) this.say("doubt", doubts.join(" "));
    else this.say("good", texts[this.studio ? "studioGood" : "good"]);
    if (bad && elsewhere) this.list.append(Object.assign(document.createElement("p"), { textContent: elsewhere }));
  }
}

// The test is in the log too: it is shown as it is now, without loading the page again.
async function renewCalls() {
  try {
    const answer = await fetch(root.dataset.url, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("[data-calls]");
    if (!answer.ok || !fresh) return;
    document.querySelector("[data-calls]").replaceWith(fresh);
    localTimes(fresh);
  } catch {
    // offline: the test has said so
  }
}

for (const place of root.querySelectorAll("[data-self]")) new Test(place);
