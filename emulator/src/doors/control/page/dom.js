// Makes elements. Text is only ever set as text: nothing that a device or a webhook sent becomes markup.

/**
 * Creates an element. `class`, `text` and `on` (event handlers) are special, `undefined` and `false` leave an
 * attribute out, everything else is an attribute. Children are nodes or strings; falsy children are left out.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, handler] of Object.entries(value)) handler && element.addEventListener(event, handler);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A list of facts; pairs without a value are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return el("dl", { class: "facts" }, known.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", {}, value))));
}

/** Calls `action` at most once a frame, however often it is asked to. A hidden page has no frames, so a timer helps out. */
export function oncePerFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    const run = () => {
      if (!waiting) return;
      waiting = false;
      action();
    };
    requestAnimationFrame(run);
    setTimeout(run, 250);
  };
}

/**
 * Shows `rows` in a list: `key` names a row, `state` is everything that it shows as text, `make` creates it. A row whose
 * state is the same stays in its place, so that a click that has begun on it ends on it, and the focus stays where it is.
 * If the row that has the focus is made again, the focus goes to the control with the same `id`, or to the first button.
 */
export function showRows(list, rows) {
  const wanted = new Map(rows.map((row) => [row.key, row]));
  const kept = new Map();
  let focused;
  let control;
  for (const old of [...list.children]) {
    const { key, state } = old.dataset;
    if (wanted.get(key)?.state === state) {
      kept.set(key, old);
    } else {
      if (old.contains(document.activeElement)) [focused, control] = [key, document.activeElement.id];
      old.remove();
    }
  }
  let place = list.firstElementChild;
  for (const { key, state, make } of rows) {
    let row = kept.get(key);
    if (!row) {
      row = make();
      row.dataset.key = key;
      row.dataset.state = state;
    }
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
    if (key === focused) (document.getElementById(control) ?? row.querySelector("button"))?.focus({ preventScroll: true });
  }
}
