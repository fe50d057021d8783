// Every change is sent at once: one request at a time, the newest state wins, and until the server
// has it the state stays in this browser, so that neither a lost connection nor a closed page loses it.

import { uuid, wire } from "./state.js";

const FIRST_PAUSE = 1000; // milliseconds, doubled until
const LONGEST_PAUSE = 30_000;
const KEEPALIVE_BYTES = 60_000; // browsers finish requests up to 64 KiB after the page is left

export class Saver {
  // on: {saved(state, last), sign(kind, message), conflict(state)}; see conflict.js.
  constructor({ id, url, token, version, on }) {
    Object.assign(this, { key: `sightbox:picture:${id}`, url, token, version, on });
    this.wanted = null; // {batch, layer}: what the server does not have yet
    this.busy = false;
    this.locked = false;
    this.pause = FIRST_PAUSE;
    this.idle = [];
  }

  start(signal) {
    window.addEventListener("online", () => this.retry(), { signal });
    window.addEventListener("offline", () => this.on.sign("offline"), { signal });
    signal.addEventListener("abort", () => clearTimeout(this.timer));
    this.on.sign(navigator.onLine ? "saved" : "offline");
  }

  // What an earlier visit of this page could not send, or null; send() tries again.
  restore() {
    const kept = this._read();
    if (!kept?.layer?.annotations || !Number.isInteger(kept.version)) return null;
    this.wanted = { batch: kept.batch, layer: kept.layer };
    this.version = kept.version;
    return kept.layer;
  }

  save(layer) {
    this.wanted = { batch: uuid(), layer };
    this._write();
    this.on.sign(navigator.onLine ? "saving" : "offline");
    this.send();
  }

  retry() {
    this.pause = FIRST_PAUSE;
    if (this.wanted) this.send();
    else this.on.sign("saved");
  }

  // Resolves when nothing is left to send, or with false after so many milliseconds.
  settled(milliseconds) {
    if (!this.wanted) return Promise.resolve(true);
    return new Promise((resolve) => {
      this.idle.push(() => resolve(true));
      setTimeout(() => resolve(false), milliseconds);
    });
  }

  // After a conflict: mine goes over what the server has now.
  overwrite(version, layer) {
    this.version = version;
    this.locked = false;
    this.save(layer);
  }

  // After a conflict: what the server has is taken, and nothing of mine is left.
  forget(version) {
    this.version = version;
    this.locked = false;
    this._done();
  }

  async send() {
    clearTimeout(this.timer);
    if (this.busy || this.locked || !this.wanted) return;
    this.busy = true;
    const job = this.wanted;
    let answer;
    try {
      answer = await this._put(job);
    } finally {
      this.busy = false;
    }
    if (answer.state) {
      this.version = answer.state.version;
      const last = this.wanted === job;
      if (last) this._done();
      else this._write();
      this.on.saved(answer.state, last);
      if (!last) this.send();
    } else if (answer.conflict) {
      this.locked = true;
      this.on.conflict(answer.conflict);
    } else this._failed(answer, job);
  }

  _failed({ again, kind, message }, job) {
    this.on.sign(kind, message);
    if (this.wanted !== job) this.send();
    else if (again) {
      this.timer = setTimeout(() => this.send(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    }
  }

  async _put({ batch, layer }) {
    const body = JSON.stringify({ version: this.version, batch, ...wire(layer) });
    const headers = { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": this.token };
    try {
      const response = await fetch(this.url, { method: "PUT", headers, body, keepalive: body.length < KEEPALIVE_BYTES });
      const isJson = response.headers.get("Content-Type")?.includes("json");
      if (response.redirected || response.status === 401 || (response.ok && !isJson)) return { kind: "login" };
      const data = isJson ? await response.json() : null;
      if (response.ok) return { state: data };
      if (response.status === 409 && data?.state) return { conflict: data.state };
      const again = response.status >= 500 || response.status === 429;
      return { again, kind: again ? "offline" : "refused", message: data?.error?.message };
    } catch {
      return { again: true, kind: "offline" };
    }
  }

  _done() {
    const kept = this._read();
    if (!kept || !this.wanted || kept.batch === this.wanted.batch) this._remove();
    this.wanted = null;
    this.pause = FIRST_PAUSE;
    this.on.sign("saved");
    for (const resolve of this.idle.splice(0)) resolve();
  }

  // The browser may keep nothing (private windows, full): then only this page has the change.
  _write() {
    try {
      localStorage.setItem(this.key, JSON.stringify({ version: this.version, ...this.wanted }));
    } catch {
      this.memoryOnly = true;
    }
  }

  _read() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  _remove() {
    try {
      localStorage.removeItem(this.key);
    } catch {
      this.memoryOnly = true;
    }
  }
}
