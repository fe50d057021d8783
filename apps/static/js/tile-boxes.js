// The boxes of a tile while the pointer or the focus is on it: asked for once for each page of tiles.

const SVG = "http://www.w3.org/2000/svg";
const AT_ONCE = 200; // tiles of one request
const asked = new Map(); // id of a picture -> promise of what was found in it

function find(tile) {
  const id = tile.dataset.image;
  if (!asked.has(id)) ask(tile);
  return asked.get(id);
}

function ask(tile) {
  const page = tile.dataset.page;
  const all = [...document.querySelectorAll("[data-tiles] > [data-image]")];
  const near = all.filter((one) => one === tile || (one.dataset.page === page && !asked.has(one.dataset.image)));
  const at = Math.max(0, near.indexOf(tile) - AT_ONCE / 2);
  const ids = near.slice(at, at + AT_ONCE).map((one) => one.dataset.image);
  const url = document.querySelector("[data-boxes-url]").dataset.boxesUrl;
  const answer = fetch(`${url}?${new URLSearchParams(ids.map((id) => ["id", id]))}`, { headers: { Accept: "application/json" } })
    .then((response) => (response.ok ? response.json() : Promise.reject(new Error(response.status))))
    .then((body) => body.pictures);
  for (const id of ids) asked.set(id, answer.then((pictures) => pictures[id]));
  answer.catch(() => ids.forEach((id) => asked.delete(id))); // the next hover asks again
}

function draw(picture, found) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "tile-boxes");
  svg.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  svg.setAttribute("preserveAspectRatio", "xMidYMid slice"); // as object-fit: cover
  svg.setAttribute("aria-hidden", "true");
  for (const box of found.boxes) {
    const group = document.createElementNS(SVG, "g");
    group.setAttribute("class", `c${box.c}`);
    group.dataset.label = box.label;
    for (const kind of ["halo", "edge"]) {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("class", kind);
      const [x1, y1, x2, y2] = box.box;
      for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) rect.setAttribute(key, value);
      group.append(rect);
    }
    svg.append(group);
  }
  picture.append(svg);
}

async function show(event) {
  const picture = event.target instanceof Element ? event.target.closest("[data-tiles] .tile-picture") : null;
  const tile = picture?.closest("[data-image]");
  if (!tile || picture.querySelector(".tile-boxes")) return;
  const found = await find(tile).catch(() => null);
  if (found?.boxes.length && !picture.querySelector(".tile-boxes")) draw(picture, found);
}

document.addEventListener("pointerover", (event) => {
  if (event.pointerType !== "touch") show(event);
});
document.addEventListener("focusin", show);
document.addEventListener("sightbox:tile", (event) => asked.delete(event.detail)); // detected meanwhile
