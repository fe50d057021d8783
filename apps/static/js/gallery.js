// Follows waiting pictures: each tile is fetched again when its detection has ended.

const POLL_MS = 1500;
const banner = () => document.querySelector("[data-waiting]");

const waitingTiles = () =>
  [...document.querySelectorAll("[data-tiles] [data-image]")].filter((tile) => !["done", "failed"].includes(tile.dataset.status));

async function refreshTile(tile) {
  const answer = await fetch(tile.dataset.cardUrl);
  if (!answer.ok) return;
  const fresh = document.createElement("template");
  fresh.innerHTML = await answer.text();
  const next = fresh.content.querySelector("[data-image]");
  if (next) {
    next.querySelector("[data-select]").checked = tile.querySelector("[data-select]").checked;
    next.dataset.page = tile.dataset.page; // which of the pages that scrolling brought
    tile.replaceWith(next);
    document.dispatchEvent(new CustomEvent("sightbox:tile", { detail: next.dataset.image }));
  } else location.reload(); // logged out meanwhile
}

async function poll() {
  const tiles = waitingTiles();
  const query = new URLSearchParams(tiles.slice(0, 200).map((tile) => ["id", tile.dataset.image]));
  const answer = await fetch(`${banner().dataset.statusUrl}?${query}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) return answer.status < 500;
  const state = await answer.json();
  await Promise.all(
    tiles.filter((tile) => state.statuses[tile.dataset.image] !== tile.dataset.status).map(refreshTile),
  );
  banner().hidden = state.waiting === 0;
  banner().querySelector("[data-waiting-text]").textContent = state.waiting_text;
  return state.waiting === 0;
}

let following = false;
async function follow() {
  if (following || !banner() || banner().hidden) return;
  following = true;
  for (let done = false; !done; ) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    if (document.hidden) continue;
    done = await poll().catch(() => false); // the server may be away for a moment
  }
  following = false;
}

document.addEventListener("sightbox:uploaded", follow);
follow();
