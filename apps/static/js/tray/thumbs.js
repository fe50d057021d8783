// Small pictures of files that are not on the server yet: few at a time, and only of rows in sight.

const SIDE = 88; // pixels: twice what is shown
const AT_ONCE = 2;
const MOST_BYTES = 40 * 2 ** 20; // larger ones are not worth the memory

const waiting = [];
let running = 0;

// Put the picture of `file` (a function that gives it) into `place`, when its turn comes.
export function drawThumb(place, file) {
  waiting.push([place, file]);
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const [place, file] = waiting.shift();
    if (!place.isConnected) continue;
    running += 1;
    draw(place, file)
      .catch(() => {}) // no format that this browser knows: the sign stays
      .finally(() => {
        running -= 1;
        next();
      });
  }
}

async function draw(place, file) {
  const source = await file();
  if (!source || source.size > MOST_BYTES || !source.size || /zip/.test(source.type)) return;
  const bitmap = await createImageBitmap(source, { resizeWidth: SIDE, resizeQuality: "medium" });
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const scale = SIDE / Math.min(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  bitmap.close();
  if (!place.querySelector("img")) place.replaceChildren(canvas);
}
