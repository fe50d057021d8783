// Suggestions while typing a search: a combobox as the ARIA practices describe it. The word before the
// caret is completed: tags and keys, and after "status:" or "sort:" the words that may follow.

const MOST = 12;
const root = document.querySelector("[data-completion]");
const input = root?.querySelector("input");
let words = null; // { tags: [{name, count, c}], values: {key: […]} }
let list = null;
let said = null;
let chosen = -1;

const keys = () => JSON.parse(root.querySelector("[data-words]").textContent);

async function ready() {
  if (words) return;
  words = { tags: [], values: {} };
  const answer = await fetch(root.dataset.wordsUrl, { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) words = await answer.json();
  if (document.activeElement === input && input.value) suggest();
}

// The piece that the caret is in: where it begins, whether it is negated, and its text so far.
function piece() {
  const before = input.value.slice(0, input.selectionStart ?? input.value.length);
  let start = before.length;
  const quotes = before.split('"').length - 1;
  if (quotes % 2) start = before.lastIndexOf('"');
  while (start > 0 && !/\s/.test(before[start - 1])) start -= 1;
  const negated = before[start] === "-";
  return { start, end: before.length, negated, text: before.slice(start + negated) };
}

const quoted = (text) => (/[\s"<>=:]|^-/.test(text) ? `"${text.replaceAll('"', "")}"` : text);
const folded = (text) => text.replaceAll('"', "").toLocaleLowerCase();

function options({ text }) {
  const value = /^([a-z]+)[:=](.*)$/i.exec(text);
  if (value) {
    const known = words.values[value[1].toLowerCase()] ?? (value[1].toLowerCase() === "tag" ? words.tags.map((tag) => tag.name) : []);
    return ranked(known, value[2], (word) => word).map((word) => ({ text: word, insert: `${value[1]}:${quoted(word)} ` }));
  }
  if (!text || /[<>=:]/.test(text)) return [];
  const tags = ranked(words.tags, text, (tag) => tag.name).map((tag) => ({ text: tag.name, about: String(tag.count), c: tag.c, insert: `${quoted(tag.name)} ` }));
  const more = text.includes('"') ? [] : ranked(keys(), text, (key) => key.text).map((key) => ({ ...key, insert: key.text }));
  return [...tags, ...more];
}

// Those that begin with the text before those that only contain it.
function ranked(items, text, nameOf) {
  const wanted = folded(text);
  const place = (item) => folded(nameOf(item)).indexOf(wanted);
  const found = items.filter((item) => place(item) >= 0);
  return [...found.filter((item) => place(item) === 0), ...found.filter((item) => place(item) > 0)];
}

function suggest() {
  const at = piece();
  const found = words ? options(at).slice(0, MOST) : [];
  const typed = at.text;
  if (!found.length || (found.length === 1 && found[0].insert.trim() === typed)) return close();
  chosen = -1;
  list.replaceChildren(...found.map((option, place) => row(option, place, at)));
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  input.removeAttribute("aria-activedescendant");
  said.textContent = root.dataset.textCount.replace("{count}", found.length);
}

function row(option, place, at) {
  const item = document.createElement("li");
  item.id = `suggestion-${place}`;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", "false");
  item.dataset.insert = `${at.negated ? "-" : ""}${option.insert}`;
  if (option.c !== undefined) {
    item.classList.add(`c${option.c}`);
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    item.append(swatch);
  }
  const text = document.createElement("span");
  text.dataset.text = "";
  text.textContent = option.text;
  item.append(text);
  if (option.about) {
    const about = document.createElement("small");
    about.textContent = option.about;
    item.append(about);
  }
  return item;
}

function close() {
  if (!list) return;
  list.hidden = true;
  chosen = -1;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

function choose(place) {
  const items = [...list.children];
  chosen = (place + items.length) % items.length;
  items.forEach((item, number) => item.setAttribute("aria-selected", String(number === chosen)));
  input.setAttribute("aria-activedescendant", items[chosen].id);
  items[chosen].scrollIntoView({ block: "nearest" });
}

function take(item) {
  const { start, end } = piece();
  const rest = input.value.slice(end).trimStart();
  input.value = input.value.slice(0, start) + item.dataset.insert + rest;
  const caret = start + item.dataset.insert.length;
  input.setSelectionRange(caret, caret);
  close();
  suggest(); // a key has words that may follow
}

function onKey(event) {
  if (event.isComposing) return; // Korean syllables are made with these keys
  if (event.key === "ArrowDown" && list.hidden) return suggest();
  if (list.hidden) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose(event.key === "ArrowDown" ? chosen + 1 : chosen < 0 ? -1 : chosen - 1);
  } else if (event.key === "Escape") {
    event.preventDefault(); // the browser would empty the field
    event.stopPropagation();
    close();
  } else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) {
    event.preventDefault();
    take(list.children[chosen]);
  }
}

function build() {
  input.removeAttribute("list"); // of browsers without scripts
  list = document.createElement("ul");
  list.className = "suggestions";
  list.id = "suggestions";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", root.dataset.textOptions);
  said = document.createElement("span");
  said.className = "visually-hidden";
  said.setAttribute("role", "status");
  root.append(list, said);
  const roles = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "suggestions" };
  for (const [name, value] of Object.entries(roles)) input.setAttribute(name, value);
  input.addEventListener("focus", ready);
  input.addEventListener("input", () => {
    ready();
    suggest();
  });
  input.addEventListener("keydown", onKey);
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) take(item);
  });
  if (document.activeElement === input) ready();
}

if (input) build();

// What was typed and not sent yet goes along with the panel's fields.
document.querySelector("[data-panel]")?.addEventListener("submit", (event) => {
  if (input) event.target.elements.search.value = input.value;
});
