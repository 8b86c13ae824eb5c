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
    else if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
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
