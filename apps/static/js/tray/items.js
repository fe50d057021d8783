// One file on its way: id, order, name, size, type, state, kept (its bytes are in the store), cut (an
// earlier try may have reached the server), errors, message, result. What is being sent is "queued"
// and has a part in the queue's `progress`; so a page that is left needs to write nothing.

export const SETTLED = new Set(["done", "failed", "cancelled"]);

let last = 0;
function nextOrder() {
  last = Math.max(last + 1, Date.now() * 1000);
  return last;
}

const isArchive = (file) => /\.zip$/i.test(file.name) || /zip/.test(file.type);

export function newItem(file, site) {
  const order = nextOrder();
  const limit = isArchive(file) ? site.maxRequest : site.maxBytes;
  const tooLarge = file.size > limit;
  return {
    id: `${order}-${Math.random().toString(36).slice(2, 8)}`,
    order,
    name: file.name,
    size: file.size,
    type: file.type,
    kept: false,
    cut: false,
    errors: 0,
    state: tooLarge ? "failed" : "queued",
    message: tooLarge ? site.texts.tooLarge.replace("%(limit)s", Math.round(limit / 1048576)) : null,
  };
}

// How many there are of each kind, and which part of all their bytes is up.
export function countsOf(items, progress) {
  const counts = { all: items.size, done: 0, failed: 0, cancelled: 0, left: 0, part: 0 };
  let size = 0;
  let sent = 0;
  for (const item of items.values()) {
    const settled = SETTLED.has(item.state);
    counts[settled ? item.state : "left"] += 1;
    if (item.state === "cancelled") continue;
    size += item.size + 1;
    sent += (item.size + 1) * (settled ? 1 : (progress.get(item.id) ?? 0));
  }
  counts.part = size ? sent / size : 0;
  return counts;
}
