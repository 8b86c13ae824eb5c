// The timeline: a list box, newest first, that only holds the rows in view, however many entries there are.

import { el, oncePerFrame } from "./dom.js";

/** Rows above and below the view, so that scrolling shows no gaps. */
const MARGIN = 8;

export class Timeline {
  #box;
  #sheet;
  #makeRow;
  #onSelect;
  /** What is shown, oldest first. */
  #entries = [];
  #rows = new Map();
  #rowHeight = 48;
  #selected;
  #draw = oncePerFrame(() => this.#render());

  /**
   * `box` has the role listbox and scrolls. `makeRow(entry)` returns the contents of a row. `onSelect(entry, opened)` is
   * called when the user selects an entry; `opened` is true if the user asks for its details, by a click or Enter.
   */
  constructor(box, makeRow, onSelect) {
    this.#box = box;
    this.#makeRow = makeRow;
    this.#onSelect = onSelect;
    this.#sheet = el("div", { class: "sheet", role: "presentation" });
    box.append(this.#sheet);
    box.addEventListener("scroll", this.#draw, { passive: true });
    box.addEventListener("keydown", (event) => this.#onKey(event));
    this.#sheet.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.#select(this.#indexOf(row.dataset.key), true);
    });
    new ResizeObserver(() => {
      this.#measure();
      this.#draw();
    }).observe(box);
    this.#measure();
  }

  /**
   * Shows `entries`, oldest first. If the view is scrolled away from the top, it stays where it is: `added` tells how
   * many entries at the end are new.
   */
  show(entries, added = 0) {
    this.#entries = entries;
    const scrolled = this.#box.scrollTop;
    this.#sheet.style.height = `${entries.length * this.#rowHeight}px`;
    if (scrolled > 0 && added > 0) this.#box.scrollTop = scrolled + added * this.#rowHeight;
    this.#draw();
  }

  /** Has the row of an entry made again, because the entry changed. */
  changed(key) {
    this.#rows.get(String(key))?.remove();
    this.#rows.delete(String(key));
    this.#draw();
  }

  /** Marks the entry with this key as the selected one, or none. */
  select(key) {
    this.#selected = key === undefined ? undefined : String(key);
    this.#draw();
  }

  /** Scrolls to the entry with this key, if it is shown. */
  reveal(key) {
    const index = this.#indexOf(String(key));
    if (index >= 0) this.#scrollTo(index);
  }

  /** The position from the top of the entry with this key, or -1. */
  #indexOf(key) {
    const position = this.#entries.findLastIndex((entry) => String(entry.key) === key);
    return position < 0 ? -1 : this.#entries.length - 1 - position;
  }

  #at(index) {
    return this.#entries[this.#entries.length - 1 - index];
  }

  #measure() {
    // The height of a row follows the size of the font.
    const probe = el("div", { class: "row", "aria-hidden": "true" });
    this.#sheet.append(probe);
    this.#rowHeight = probe.offsetHeight || this.#rowHeight;
    probe.remove();
    this.#sheet.style.height = `${this.#entries.length * this.#rowHeight}px`;
  }

  #render() {
    const first = Math.max(0, Math.floor(this.#box.scrollTop / this.#rowHeight) - MARGIN);
    const last = Math.min(
      this.#entries.length,
      Math.ceil((this.#box.scrollTop + this.#box.clientHeight) / this.#rowHeight) + MARGIN,
    );
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(String(this.#at(index).key), index);
    const selected = this.#selected === undefined ? -1 : this.#indexOf(this.#selected);
    if (selected >= 0) wanted.set(this.#selected, selected);
    for (const [key, row] of this.#rows) {
      if (!wanted.has(key)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    // Rows that stay are not made again: a click that has begun on one must end on the same one.
    let place = this.#sheet.firstElementChild;
    for (const [key, index] of [...wanted].sort(([, a], [, b]) => a - b)) {
      let row = this.#rows.get(key);
      if (!row) {
        row = el("div", { class: "row", role: "option", id: `row-${key}` }, this.#makeRow(this.#at(index)));
        row.dataset.key = key;
        this.#rows.set(key, row);
      }
      if (row === place) place = place.nextElementSibling;
      else this.#sheet.insertBefore(row, place);
      row.style.transform = `translateY(${index * this.#rowHeight}px)`;
      row.setAttribute("aria-setsize", this.#entries.length);
      row.setAttribute("aria-posinset", index + 1);
      row.setAttribute("aria-selected", String(index === selected));
    }
    if (selected >= 0) this.#box.setAttribute("aria-activedescendant", `row-${this.#selected}`);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = this.#selected === undefined ? -1 : this.#indexOf(this.#selected);
    const page = Math.max(1, Math.floor(this.#box.clientHeight / this.#rowHeight) - 1);
    const last = this.#entries.length - 1;
    const target = {
      ArrowDown: now + 1,
      ArrowUp: now - 1,
      PageDown: now + page,
      PageUp: now - page,
      Home: 0,
      End: last,
      Enter: now,
      " ": now,
    }[event.key];
    if (target === undefined || last < 0) return;
    event.preventDefault();
    this.#select(Math.min(last, Math.max(0, target)), event.key === "Enter" || event.key === " ");
  }

  #select(index, opened) {
    if (index < 0) return;
    const entry = this.#at(index);
    this.#selected = String(entry.key);
    this.#scrollTo(index);
    this.#render();
    this.#onSelect(entry, opened);
  }

  #scrollTo(index) {
    const top = index * this.#rowHeight;
    if (top < this.#box.scrollTop) this.#box.scrollTop = top;
    else if (top + this.#rowHeight > this.#box.scrollTop + this.#box.clientHeight) {
      this.#box.scrollTop = top + this.#rowHeight - this.#box.clientHeight;
    }
  }
}
