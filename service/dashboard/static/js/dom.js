// Small helpers over the DOM. Data reaches the page as text nodes and attributes only, never as markup.

import { stateInfo } from "./words.js";

/** Create an element. `on*` attributes are listeners; null, undefined and false attributes are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set text only where it differs, so that live regions and selections are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or remove an attribute, only where it differs. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** A state as a coloured dot and its word. `setState` updates it. */
export function stateBadge(live = false) {
  return el("span", { class: "state", role: live ? "status" : null });
}

export function setState(badge, state) {
  const { tone, meaning } = stateInfo(state);
  badge.dataset.tone = tone;
  setAttribute(badge, "title", meaning || null);
  setText(badge, state);
}

/** A progress bar with its count in words, e.g. "3 / 8". */
export function progressBar(label) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": label });
  const count = el("span", { class: "count" });
  const node = el("span", { class: "progress" }, bar, count);
  return {
    node,
    set(done, total) {
      bar.max = Math.max(total, 1);
      bar.value = done;
      setText(count, `${done} / ${total}`);
    },
  };
}
