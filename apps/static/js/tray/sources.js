// The ways in which files come: dropped, pasted, chosen, a folder, the camera.

import { onFilesDropped } from "../drop.js";

const PICTURE = /\.(jpe?g|jpe|jfif|mpo|png|apng|webp|gif|bmp|dib|tiff?|avif|hei[cf]|zip)$/i;
const CLUTTER = /^(\.|thumbs\.db$|ehthumbs\.db$|desktop\.ini$|__macosx$)/i;
const TYPING = "input:not([type=checkbox], [type=radio], [type=range], [type=button], [type=submit], [type=file]), textarea, [contenteditable]";

// Of a whole folder only what may be a picture is meant; what was chosen itself always is.
function meant(file) {
  if (file.type.startsWith("image/") || PICTURE.test(file.name)) return true;
  return !file.name.includes(".");
}

function sift(files) {
  const visible = files.filter((file) => !CLUTTER.test(file.name) && !/(^|\/)(\.|__MACOSX)/i.test(file.webkitRelativePath ?? ""));
  const taken = visible.filter(meant);
  return { files: taken, leftOut: visible.length - taken.length };
}

const fileOf = (entry) => new Promise((resolve) => entry.file(resolve, () => resolve(null)));

// A folder gives its entries a hundred at a time, and nothing at its end.
async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return all.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    all.push(...some);
  }
}

async function walk(folder, found) {
  for (const entry of await entriesOf(folder)) {
    if (CLUTTER.test(entry.name)) continue;
    if (entry.isDirectory) await walk(entry, found);
    else found.push(await fileOf(entry));
  }
}

// What was dropped. Its entries must be taken at once: the event's data is gone after the first await.
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => [item.webkitGetAsEntry?.() ?? null, item.getAsFile()]);
  const files = [];
  const inFolders = [];
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) await walk(entry, inFolders);
    else if (file) files.push(file);
  }
  const { files: sifted, leftOut } = sift(inFolders.filter(Boolean));
  return { files: [...files, ...sifted], leftOut };
}

// Pictures of the clipboard are all called "image.png".
function named(file, text) {
  const time = new Date().toLocaleString("sv").replaceAll(":", ".");
  const extension = file.type.split("/")[1]?.replace("jpeg", "jpg") ?? "png";
  if (!/^image\.\w+$/i.test(file.name)) return file;
  return new File([file], `${text.pasted.replace("%(time)s", time)}.${extension}`, { type: file.type });
}

export function listen(text, take) {
  const own = () => document.querySelector("[data-takes-files]"); // a page that wants them for itself
  if (!own()) {
    document.querySelector("[data-drop-overlay]").hidden = false;
    onFilesDropped(async (_files, transfer) => take(await dropped(transfer)));
  }
  document.addEventListener("paste", (event) => {
    const data = event.clipboardData;
    const files = [...(data?.files ?? [])];
    if (!files.length || event.defaultPrevented || own()) return;
    if (event.target.closest?.(TYPING) && data.types.includes("text/plain")) return;
    event.preventDefault();
    take({ files: files.map((file) => named(file, text)), leftOut: 0 });
  });
  document.addEventListener("sightbox:upload", (event) => take({ files: event.detail.files, leftOut: 0 }));

  const folder = document.querySelector("[data-tray-folder]");
  const camera = document.querySelector("[data-tray-camera]");
  folder.addEventListener("change", () => {
    take(sift([...folder.files]));
    folder.value = "";
  });
  camera.addEventListener("change", () => {
    take({ files: [...camera.files], leftOut: 0 });
    camera.value = "";
  });
  document.addEventListener("click", (event) => {
    const pick = event.target.closest?.("[data-tray-pick]")?.dataset.trayPick;
    if (pick) (pick === "folder" ? folder : camera).click();
  });
}
