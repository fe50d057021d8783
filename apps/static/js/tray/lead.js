// Of all open pages of an account one alone uploads. lead(name, start) calls start() when it is this
// one's turn; the turn ends with the page.

const LEASE_MS = 6000;
const RENEW_MS = 2000;

export function lead(name, start) {
  if (navigator.locks) navigator.locks.request(name, () => { start(); return new Promise(() => {}); }).catch(() => {});
  else leadByLease(name, start);
}

// Browsers have no locks on plain http, where many run this at home: a note with an end instead.
function leadByLease(name, start) {
  const me = Math.random().toString(36).slice(2);
  let leading = false;
  const read = () => {
    try {
      return JSON.parse(localStorage.getItem(name)) ?? {};
    } catch {
      return {};
    }
  };
  const tick = () => {
    const holder = read();
    if (holder.tab !== me && holder.until > Date.now()) return;
    const mine = holder.tab === me;
    try {
      localStorage.setItem(name, JSON.stringify({ tab: me, until: Date.now() + LEASE_MS }));
    } catch {
      // nothing can be noted here, so no other page can either
    }
    if (leading || (!mine && holder.tab)) setTimeout(begin, 50); // two may have written: the last one wins
    else begin();
  };
  const begin = () => {
    if (leading || (read().tab ?? me) !== me) return;
    leading = true;
    start();
  };
  window.addEventListener("pagehide", () => {
    if (leading && read().tab === me) localStorage.removeItem(name);
  });
  tick();
  setInterval(tick, RENEW_MS);
}
