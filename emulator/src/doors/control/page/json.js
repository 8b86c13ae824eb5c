// Shows a body: JSON indented and with its parts marked, anything else as it came.

import { el } from "./dom.js";

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
/** Above this size a body is shown without colour: each coloured part is an element. */
const MOST_COLOURED = 60_000;
/** Deeper levels are not indented further: a body of brackets alone would fill the memory with spaces. */
const DEEPEST = 32;

/** Indents JSON, or returns `undefined` if `text` is not JSON. Works on the text: numbers and escapes stay as sent. */
function indented(text) {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  const tokens = text.match(TOKEN);
  const parts = [];
  const write = (kind, part) => parts.push([kind, part]);
  let depth = 0;
  const newline = () => write("space", "\n" + "  ".repeat(Math.min(depth, DEEPEST)));
  tokens.forEach((token, index) => {
    const next = tokens[index + 1];
    if (token === "{" || token === "[") {
      write("mark", token);
      depth += 1;
      if (next !== "}" && next !== "]") newline();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const before = tokens[index - 1];
      if (before !== "{" && before !== "[") newline();
      write("mark", token);
    } else if (token === ",") {
      write("mark", token);
      newline();
    } else if (token === ":") {
      write("mark", ": ");
    } else if (token.startsWith('"')) {
      write(next === ":" ? "name" : "string", token);
    } else {
      write("value", token);
    }
  });
  return parts;
}

/** Returns a block that shows `text`. */
export function body(text) {
  const code = el("code");
  const parts = indented(text);
  if (parts === undefined || text.length > MOST_COLOURED) {
    code.textContent = parts ? parts.map(([, part]) => part).join("") : text;
  } else {
    code.append(
      ...parts.map(([kind, part]) => (kind === "mark" || kind === "space" ? part : el("span", { class: kind, text: part }))),
    );
  }
  return el("pre", { class: "body" }, code);
}

/** A titled body with a button that copies it. `empty` is shown if there is none. */
export function titledBody(title, text, empty) {
  const heading = el("h4", { text: title });
  if (!text) return el("section", { class: "titled" }, heading, el("p", { class: "quiet", text: empty }));
  const block = body(text);
  const copy = el("button", { type: "button", class: "plain", text: "Copy", "aria-label": `Copy: ${title}` });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Cannot copy";
    }
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  return el("section", { class: "titled" }, el("div", { class: "title-line" }, heading, copy), block);
}
