// The one tooltip of the page: follows the pointer, keeps inside the window.

import { el } from "./dom.js";
import { swatch } from "./swatch.js";

const DISTANCE = 16;

export class Tooltip {
  constructor() {
    this.node = el("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
    document.body.append(this.node);
  }

  dispose() {
    this.node.remove();
  }

  /** @param rows [{number, label, value, focused}]; without a number a row has no swatch */
  show(event, title, rows) {
    this.node.replaceChildren(
      el("div", { class: "tooltip-title" }, title),
      ...rows.map(({ number, label, value, focused }) =>
        el(
          "div",
          { class: focused ? "tooltip-row focused" : "tooltip-row" },
          number === null ? null : swatch(number),
          number === null ? null : el("span", { class: "tooltip-number" }, String(number)),
          el("span", { class: "tooltip-label" }, label),
          el("span", { class: "tooltip-value" }, value),
        ),
      ),
    );
    this.node.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const right = event.clientX + DISTANCE;
    const left = right + width > window.innerWidth ? event.clientX - DISTANCE - width : right;
    const top = Math.min(event.clientY + DISTANCE, window.innerHeight - height - 4);
    this.node.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  hide() {
    this.node.hidden = true;
  }
}
