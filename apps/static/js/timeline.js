// What appears when: one row for each class, its parts as buttons that go there.

export function clock(milliseconds) {
  const tenths = Math.round(milliseconds / 100);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

// frames: [{t, boxes: [{label, score}]}] in order; Map of label to [{start, end, count}], milliseconds.
export function segmentsOf(frames, threshold, step, duration) {
  const gap = Math.max(2 * step, duration / 400); // shorter ones are no disappearance
  const rows = new Map();
  frames.forEach((frame, index) => {
    const end = frames[index + 1]?.t ?? frame.t + step;
    const counts = new Map();
    for (const { label, score } of frame.boxes) {
      if (score >= threshold) counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    for (const [label, count] of counts) {
      if (!rows.has(label)) rows.set(label, []);
      const parts = rows.get(label);
      const last = parts.at(-1);
      if (last && frame.t - last.end <= gap) {
        last.end = end;
        last.count = Math.max(last.count, count);
      } else parts.push({ start: frame.t, end, count });
    }
  });
  return rows;
}

export class Timeline {
  constructor(root, { duration, colorOf, describe, seek }) {
    Object.assign(this, { root, duration, colorOf, describe, seek });
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("keydown", (event) => this.pressed(event));
  }

  // rows: as segmentsOf gives them; hidden: labels that are not shown.
  draw(rows, hidden) {
    const focused = document.activeElement?.closest?.("[data-timeline] button")?.dataset;
    const parts = [...rows].filter(([label]) => !hidden.has(label)).map((row) => this.row(...row));
    this.root.replaceChildren(...parts);
    const buttons = [...this.root.querySelectorAll("button")];
    const again = focused && buttons.find((b) => b.dataset.label === focused.label && b.dataset.start === focused.start);
    if (buttons.length) (again ?? buttons[0]).tabIndex = 0;
    again?.focus();
    return parts.length;
  }

  row(label, segments) {
    const row = document.createElement("div");
    row.className = `timeline-row c${this.colorOf(label)}`;
    const name = document.createElement("span");
    name.className = "timeline-label";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    name.append(swatch, label);
    const track = document.createElement("div");
    track.className = "track";
    track.append(...segments.map((segment) => this.segment(label, segment)));
    row.append(name, track);
    return row;
  }

  segment(label, segment) {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.label = label;
    button.dataset.start = segment.start;
    button.style.left = `${(100 * segment.start) / this.duration}%`;
    button.style.width = `${(100 * (Math.min(segment.end, this.duration) - segment.start)) / this.duration}%`;
    const said = this.describe(label, segment);
    button.setAttribute("aria-label", said);
    button.title = said;
    return button;
  }

  place(milliseconds) {
    this.root.style.setProperty("--place", `${Math.min(100, (100 * milliseconds) / this.duration)}%`);
  }

  clicked(event) {
    const track = event.target.closest(".track");
    if (!track) return;
    const button = event.target.closest("button");
    if (button) this.choose(button);
    if (button && event.detail === 0) return this.seek(Number(button.dataset.start)); // by Enter
    const frame = track.getBoundingClientRect();
    this.seek(((event.clientX - frame.left) / frame.width) * this.duration);
  }

  choose(button) {
    for (const other of this.root.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  }

  pressed(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const rows = [...this.root.children].map((row) => [...row.querySelectorAll("button")]);
    const y = rows.findIndex((row) => row.includes(button));
    const x = rows[y].indexOf(button);
    const near = (row) => row?.reduce((best, one) => (far(one) < far(best) ? one : best), row[0]);
    const far = (one) => Math.abs(one.dataset.start - button.dataset.start);
    const next = {
      ArrowRight: rows[y][x + 1],
      ArrowLeft: rows[y][x - 1],
      ArrowDown: near(rows[y + 1]),
      ArrowUp: near(rows[y - 1]),
      Home: rows[y][0],
      End: rows[y].at(-1),
    };
    if (!(event.key in next)) return;
    event.preventDefault();
    if (next[event.key]) this.choose(next[event.key]);
  }
}
