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

  /** @param rows [{label, value, colour, dash, focused}]; without a colour a row has no swatch */
  show(event, title, rows) {
    this.node.replaceChildren(
      el("div", { class: "tooltip-title" }, title),
      ...rows.map((row) =>
        el(
          "div",
          { class: row.focused ? "tooltip-row focused" : "tooltip-row" },
          row.colour ? swatch(row) : null,
          el("span", { class: "tooltip-label" }, row.label),
          el("span", { class: "tooltip-value" }, row.value),
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
