// The colour of a label, as apps/vision/colors.py gives it: CRC-32 of the folded label.

const PLACES = 24; // of the palette in css/labels.css
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const known = new Map();

const folded = (label) => label.toLowerCase().replaceAll("ß", "ss").replaceAll("ς", "σ");

export function colorClass(label) {
  if (!known.has(label)) {
    let crc = 0xffffffff;
    for (const byte of new TextEncoder().encode(folded(label))) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
    known.set(label, `c${((crc ^ 0xffffffff) >>> 0) % PLACES}`);
  }
  return known.get(label);
}
