// Somebody else, or another tab, changed the same picture meanwhile: a person chooses.

import { differences } from "./state.js";

// Opens the dialog; choose("mine") or choose("theirs") is called once, never when it is closed.
export class Conflict {
  constructor(dialog, { signal }) {
    Object.assign(this, { dialog, choose: null });
    dialog.addEventListener("click", (event) => {
      const answer = event.target.closest("[data-choice]")?.dataset.choice;
      if (!answer || !this.choose) return;
      const { choose } = this;
      this.choose = null;
      dialog.close();
      choose(answer);
    }, { signal });
  }

  get open() {
    return this.choose !== null;
  }

  ask(mine, theirs, choose) {
    const counts = differences(mine, theirs);
    for (const [name, count] of Object.entries(counts)) this.dialog.querySelector(`[data-differs="${name}"]`).textContent = count;
    this.dialog.querySelector("[data-differs-reviewed]").hidden = mine.reviewed === theirs.reviewed;
    this.choose = choose;
    this.show();
  }

  show() {
    if (this.open && !this.dialog.open) this.dialog.showModal();
  }
}
