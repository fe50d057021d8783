// What waits to be uploaded, kept in the browser (IndexedDB) so that the next page goes on with it.
// One database for each account. Where the browser keeps nothing, every call still works and
// `keeps` is false: the files then live as long as the page.

const VERSION = 1;
const ITEMS = "items"; // name, size, state: small, read as a whole
const FILES = "files"; // the bytes, read one by one

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const ended = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });

function open(name) {
  const request = indexedDB.open(name, VERSION);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(ITEMS, { keyPath: "id" });
    request.result.createObjectStore(FILES);
  };
  return asked(request);
}

const nothing = {
  keeps: false,
  all: async () => [],
  add: async () => false,
  put: async () => {},
  file: async () => null,
  remove: async () => {},
  clear: async () => {},
};

export async function openStore(account) {
  let database;
  try {
    database = await open(`sightbox-uploads-${account}`);
  } catch {
    return nothing; // switched off, or no room for it
  }
  const write = (stores, work) => {
    const transaction = database.transaction(stores, "readwrite", { durability: "relaxed" });
    const done = ended(transaction);
    work(...stores.map((store) => transaction.objectStore(store)));
    return done;
  };
  return {
    keeps: true,
    all: () => asked(database.transaction(ITEMS).objectStore(ITEMS).getAll()),

    // [[item, file], …] -> whether they are kept; without room none of them is.
    async add(pairs) {
      try {
        await write([ITEMS, FILES], (items, files) => {
          for (const [item, file] of pairs) {
            items.put({ ...item, kept: true });
            files.put(file, item.id);
          }
        });
        return true;
      } catch {
        return false;
      }
    },

    // A changed item; the file of one that is up is not needed any more.
    put: (item) =>
      write([ITEMS, FILES], (items, files) => {
        items.put(item);
        if (item.state === "done") files.delete(item.id);
      }).catch(() => {}),

    file: (id) => asked(database.transaction(FILES).objectStore(FILES).get(id)).then((file) => file ?? null, () => null),

    remove: (ids) =>
      write([ITEMS, FILES], (items, files) => {
        for (const id of ids) {
          items.delete(id);
          files.delete(id);
        }
      }).catch(() => {}),

    clear: () =>
      write([ITEMS, FILES], (items, files) => {
        items.clear();
        files.clear();
      }).catch(() => {}),
  };
}
