// Undo and redo without end: whole states, which are small and never changed in place.

export class History {
  constructor(present) {
    this.reset(present);
  }

  reset(present) {
    this.past = [];
    this.present = present;
    this.future = [];
  }

  push(state) {
    this.past.push(this.present);
    this.present = state;
    this.future = [];
  }

  // The last step takes in this one too: a box that was drawn and named is one step.
  amend(state) {
    this.present = state;
    this.future = [];
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.present);
    this.present = this.past.pop();
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.present);
    this.present = this.future.pop();
    return true;
  }
}
