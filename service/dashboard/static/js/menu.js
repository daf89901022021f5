// A menu that unfolds under its title: closes at Escape and when something else is pressed.

import { el } from "./dom.js";

/** @param attributes and @param title of what is pressed, @param content what unfolds */
export function menu(attributes, title, content) {
  const summary = el("summary", attributes, title);
  const node = el("details", { class: "menu" }, summary, content);
  const away = (event) => {
    if (!node.contains(event.target)) node.open = false;
  };
  node.addEventListener("toggle", () => document[node.open ? "addEventListener" : "removeEventListener"]("pointerdown", away));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    node.open = false;
    summary.focus();
  });
  return node;
}
