// The picture itself: the original where its copy is too coarse, the neighbours, and its facts.

// Load the original once the zoom goes beyond what the copy shows. Formats that the browser cannot
// show, and files that are not as large as they should be, leave the copy in its place.
export class FullPicture {
  constructor(image, address, [width, height]) {
    Object.assign(this, { image, address, width, height, asked: false });
  }

  // scale: screen pixels for one pixel of the picture
  async want(scale) {
    const { image } = this;
    const coarse = image.complete && image.naturalWidth > 0 && image.naturalWidth < this.width;
    if (this.asked || !coarse || scale * this.width * (window.devicePixelRatio || 1) <= image.naturalWidth * 1.05) return;
    this.asked = true;
    const full = new Image();
    full.src = this.address;
    try {
      await full.decode();
    } catch {
      return;
    }
    if (full.naturalWidth !== this.width || full.naturalHeight !== this.height) return;
    image.src = full.src;
    image.dataset.full = "";
  }
}

// What is looked at next is there already.
export function preload(image, addresses) {
  const load = () => {
    for (const address of addresses) new Image().src = address;
  };
  if (image.complete) load();
  else image.addEventListener("load", load, { once: true });
}

// What the camera wrote into the file; nothing is shown where it wrote nothing.
export async function showFacts(list, texts) {
  const response = await fetch(list.dataset.exif, { headers: { Accept: "application/json" } }).catch(() => null);
  if (!response?.ok) return;
  const facts = await response.json();
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
  // The camera's clock has no zone: its time is shown as it is.
  const taken = facts.taken_at ? format.format(new Date(`${facts.taken_at}Z`)) : null;
  const rows = [[texts.camera, facts.camera], [texts.lens, facts.lens], [texts.taken, taken], [texts.exposure, facts.exposure], [texts.place, facts.position ? texts.position : null]];
  list.querySelectorAll("[data-from-file]").forEach((part) => part.remove());
  for (const [name, value] of rows) {
    if (!value) continue;
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      const part = document.createElement(tag);
      part.dataset.fromFile = "";
      part.textContent = text;
      list.append(part);
    }
  }
}
