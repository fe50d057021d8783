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

// New pictures: the tiles, how many there are and how many wait are taken from a fresh page. Tiles
// that are there stay, with what is chosen and with the pages that scrolling has brought.
async function refresh() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["[data-total]", "[data-waiting]"]) replace(part, page);
  const tiles = document.querySelector("[data-tiles]");
  if (tiles) {
    const known = new Set([...tiles.querySelectorAll("[data-image]")].map((tile) => tile.dataset.image));
    const fresh = [...page.querySelectorAll("[data-tiles] [data-image]")];
    tiles.prepend(...fresh.filter((tile) => !known.has(tile.dataset.image)));
  } else replace("[data-gallery-view]", page);
  document.dispatchEvent(new CustomEvent("sightbox:tiles"));
  follow();
}

function replace(part, page) {
  const fresh = page.querySelector(part);
  if (fresh) document.querySelector(part)?.replaceWith(fresh);
}

// A picture that is opened from a search has the neighbours that it has there.
for (const kind of ["click", "auxclick"]) {
  document.addEventListener(kind, (event) => {
    const link = event.target.closest("a.tile-picture");
    const search = new URLSearchParams(location.search).get("search");
    if (link && search) link.search = new URLSearchParams({ search });
  }, { capture: true });
}

document.addEventListener("sightbox:uploaded", refresh);
follow();
