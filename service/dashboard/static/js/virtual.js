// The rows of a long table: only those in view, and some around them, are in the document. All rows have one height.

import { el } from "./dom.js";

const AROUND = 6; // rows beyond the view, so that scrolling shows no gap

export class VirtualRows {
  /**
   * @param table the table element, with its head, @param scroller what scrolls, @param height of a row in CSS pixels
   * @param make(item) -> {node, update(item)}, @param keyOf(item)
   */
  constructor({ table, scroller, height, make, keyOf }) {
    Object.assign(this, { table, scroller, height, make, keyOf });
    this.items = [];
    this.rows = new Map(); // key -> row, those in the document
    this.body = el("tbody");
    this.above = el("tbody", { "aria-hidden": "true" });
    this.below = el("tbody", { "aria-hidden": "true" });
    table.append(this.above, this.body, this.below);
    scroller.addEventListener("scroll", () => this.show(), { passive: true });
    new ResizeObserver(() => this.show()).observe(scroller);
  }

  update(items) {
    this.items = items;
    this.show(true);
  }

  /** @param changed whether rows that stay have to be brought up to date */
  show(changed = false) {
    const { items, height, scroller } = this;
    const view = Math.min(scroller.clientHeight || 600, 1200);
    const first = Math.max(0, Math.min(Math.floor(scroller.scrollTop / height) - AROUND, items.length - Math.ceil(view / height)));
    const last = Math.min(items.length, first + Math.ceil(view / height) + 2 * AROUND);
    if (!changed && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const kept = new Map();
    const nodes = [];
    for (const item of items.slice(first, last)) {
      const key = this.keyOf(item);
      const old = this.rows.get(key);
      const row = old ?? this.make(item);
      if (changed || !old) row.update(item);
      kept.set(key, row);
      nodes.push(row.node);
    }
    this.rows = kept;
    this.place(nodes);
    this.gap(this.above, first);
    this.gap(this.below, items.length - last);
    this.table.setAttribute("aria-rowcount", items.length + 1);
  }

  /** Move no row that is in its place: focus and selections would be lost. */
  place(nodes) {
    const wanted = new Set(nodes);
    for (const node of [...this.body.children]) if (!wanted.has(node)) node.remove();
    nodes.forEach((node, k) => {
      if (this.body.children[k] !== node) this.body.insertBefore(node, this.body.children[k] ?? null);
    });
  }

  gap(body, rows) {
    if (!rows) body.replaceChildren();
    else if (body.firstChild) body.firstChild.style.height = `${rows * this.height}px`;
    else body.append(el("tr", { class: "gap", style: `height: ${rows * this.height}px` }));
  }
}
