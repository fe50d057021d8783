// The keyboard: one table of keys and actions, the same for every layout and input method.

const ALONE = "sightbox:keys-off"; // single keys can be switched off, for those who speak to the browser
const LETTER = /^Key([A-Z])$/;

// "ctrl+shift+z", "?", "arrowleft". With another alphabet the place of the key counts.
export function nameOf(event) {
  const letter = LETTER.exec(event.code)?.[1].toLowerCase();
  const typed = event.key.length === 1 ? event.key.toLowerCase() : event.key.toLowerCase();
  const isLetter = letter && (!/^[a-z]$/.test(typed) || event.ctrlKey || event.metaKey);
  const key = isLetter ? letter : typed === " " ? "space" : typed;
  const symbol = event.key.length === 1 && !/[a-z0-9 ]/i.test(event.key) && !isLetter;
  const held = [(event.ctrlKey || event.metaKey) && "ctrl", event.altKey && "alt", event.shiftKey && !symbol && "shift"];
  return [...held.filter(Boolean), key].join("+");
}

const FIELDS = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]";
const OWN_KEYS = { // what an element that has the focus does with a key by itself
  space: "button, summary, input[type=checkbox], input[type=radio]",
  enter: "button, summary, a[href]",
  arrow: "input[type=range], input[type=radio]",
};

function belongsTo(target, name) {
  if (!(target instanceof Element)) return false;
  if (target.matches(FIELDS)) return true;
  const plain = name.split("+").at(-1);
  if (/^(arrow|home|end|page)/.test(plain)) return target.matches(OWN_KEYS.arrow);
  return Boolean(OWN_KEYS[plain] && target.matches(OWN_KEYS[plain]));
}

export class Keys {
  // actions: {name of a key: (event) => false if the browser shall go on with it}
  constructor(actions, { stage, toggle, signal }) {
    Object.assign(this, { actions, stage });
    document.addEventListener("keydown", (event) => this._down(event), { signal });
    if (toggle) {
      toggle.checked = !this.off;
      toggle.addEventListener("change", () => this._switch(toggle.checked), { signal });
    }
  }

  get off() {
    try {
      return localStorage.getItem(ALONE) === "1";
    } catch {
      return false;
    }
  }

  _switch(on) {
    try {
      if (on) localStorage.removeItem(ALONE);
      else localStorage.setItem(ALONE, "1");
    } catch {
      this.kept = on; // a browser that keeps nothing
    }
  }

  _down(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const name = nameOf(event);
    const action = this.actions[name];
    if (!action || belongsTo(event.target, name)) return;
    const single = name.replace("shift+", "").length === 1 || name === "space";
    if (single && this.off && !this.stage.contains(document.activeElement)) return;
    if (action(event) !== false) event.preventDefault();
  }
}
