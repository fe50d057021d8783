// Endless scroll: the pages before and after this one come when their end is near. The address names
// the page that is read, and coming back shows the same place. Without this there are page links.

const KEY = "sightbox:place"; // in sessionStorage: address of a page -> the tile at its top
const NEAR = "600px";
const tiles = () => document.querySelector("[data-tiles]");
const edge = (side) => document.querySelector(`[data-more="${side}"]`);
const busy = new Set();

async function load(side) {
  const place = edge(side);
  if (!place?.dataset.href || busy.has(side)) return;
  busy.add(side);
  note(side, place.dataset.textLoading);
  const answer = await fetch(place.dataset.href).catch(() => null);
  const page = answer?.ok && !answer.redirected ? parse(await answer.text()) : null;
  if (page && place.isConnected) insert(side, page);
  else note(side, place.dataset.textFailed, place.dataset.textAgain);
  busy.delete(side);
  if (page) watch(side); // it may still be near
}

const parse = (text) => new DOMParser().parseFromString(text, "text/html").querySelector("[data-gallery-view]");

function insert(side, page) {
  const known = new Set([...tiles().querySelectorAll("[data-image]")].map((tile) => tile.dataset.image));
  const fresh = [...page.querySelectorAll("[data-tiles] > [data-image]")].filter((tile) => !known.has(tile.dataset.image));
  const place = edge(side);
  place.dataset.href = page.querySelector(`[data-more="${side}"]`)?.dataset.href ?? "";
  const before = document.documentElement.scrollHeight;
  const top = scrollY;
  if (side === "after") {
    tiles().append(...fresh);
    settle();
  } else {
    tiles().prepend(...fresh);
    scrollTo({ top: top + document.documentElement.scrollHeight - before, behavior: "instant" });
  }
  note(side, "");
  for (const tile of fresh) read.observe(tile);
  document.dispatchEvent(new CustomEvent("sightbox:tiles"));
}

function note(side, text, again) {
  const place = edge(side);
  if (!place) return;
  if (side === "before") {
    const link = place.querySelector("a");
    link.hidden = !place.dataset.href;
    if (place.dataset.href) link.href = place.dataset.href;
    return;
  }
  place.replaceChildren(text ?? "");
  if (!again) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm btn-outline-primary ms-2";
  button.textContent = again;
  button.addEventListener("click", () => load(side));
  place.append(button);
}

// -- when ----------------------------------------------------------------------------------------

const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) if (entry.isIntersecting) load(entry.target.dataset.more);
  },
  { rootMargin: `${NEAR} 0px` },
);

function watch(side) {
  const place = edge(side);
  if (!place) return;
  near.unobserve(place);
  if (place.dataset.href) near.observe(place);
}

// Above the first page of a later address: only when somebody scrolls up, or they would never see it.
let wasAt = scrollY;
addEventListener("scroll", () => {
  if (scrollY < wasAt && scrollY < 400) load("before");
  wasAt = scrollY;
  later(remember);
}, { passive: true });
document.addEventListener("click", (event) => {
  if (!event.target.closest('[data-more="before"] a')) return;
  event.preventDefault();
  load("before");
});

// -- where ---------------------------------------------------------------------------------------

const seen = new Set(); // tiles in the upper half of the window
const read = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target) : seen.delete(target);
    const first = [...seen].filter((tile) => tile.isConnected).sort(inOrder)[0];
    if (first?.dataset.page) name(first.dataset.page);
  },
  { rootMargin: "-80px 0px -50% 0px" },
);
const inOrder = (one, other) => (one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);

function name(page) {
  tiles().dataset.page = page;
  const address = new URL(location.href);
  if ((address.searchParams.get("page") ?? "1") === page) return;
  if (page === "1") address.searchParams.delete("page");
  else address.searchParams.set("page", page);
  history.replaceState(history.state, "", address);
  const next = document.querySelector("[data-selection] [data-next]");
  if (next) next.value = address.pathname + address.search;
  for (const link of document.querySelectorAll("[data-page-links] .page-link[href]")) {
    const here = (new URL(link.href).searchParams.get("page") ?? "1") === page;
    link.parentElement.classList.toggle("active", here);
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
}

let timer = null;
function later(work) {
  clearTimeout(timer);
  timer = setTimeout(work, 150);
}

// The first tile whose lower edge is below the top bar, and how far its upper edge is from there.
function remember() {
  for (const tile of tiles()?.children ?? []) {
    const { top, bottom } = tile.getBoundingClientRect();
    if (bottom < 80) continue;
    const place = { address: location.href, image: tile.dataset.image, top };
    return sessionStorage.setItem(KEY, JSON.stringify(place));
  }
}

function restore() {
  const [entry] = performance.getEntriesByType("navigation");
  if (!["back_forward", "reload"].includes(entry?.type)) return;
  let place = null;
  try {
    place = JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return;
  }
  if (place?.address !== location.href) return;
  wanted = place;
  settle();
}

// A page that is still too short for the place grows by the next ones, unless somebody scrolls before.
let wanted = null;
function settle() {
  const tile = wanted && tiles()?.querySelector(`[data-image="${CSS.escape(wanted.image ?? "")}"]`);
  if (!tile) return;
  scrollTo({ top: scrollY + tile.getBoundingClientRect().top - wanted.top, behavior: "instant" });
  const there = Math.abs(tile.getBoundingClientRect().top - wanted.top) < 2;
  if (there || !edge("after")?.dataset.href) wanted = null;
}
for (const type of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(type, () => (wanted = null), { passive: true });

function begin() {
  if (!tiles()) return;
  for (const tile of tiles().children) read.observe(tile);
  watch("after");
}

addEventListener("pagehide", remember);
document.addEventListener("sightbox:uploaded", begin); // the tiles are new
if ("scrollRestoration" in history) history.scrollRestoration = "manual";
restore();
wasAt = scrollY;
begin();
