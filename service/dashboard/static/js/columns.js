// Columns of the tables: sorting by their headings, and which of them are shown.

import { el, setAttribute } from "./dom.js";
import { menu } from "./menu.js";

/** Absent values go last either way. */
export function compare(a, b, descending) {
  const missing = (value) => value === null || value === undefined || Number.isNaN(value);
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return descending ? -order : order;
}

/** A heading that sorts; one whose values cannot be compared only says so. */
export class Heading {
  /** @param column {key, title, number, obstacle}, @param onSort(key) */
  constructor(column, onSort) {
    this.key = column.key;
    const { obstacle } = column;
    this.button = obstacle
      ? el("span", { class: "no-sort", title: `Not comparable here, so not ranked: ${obstacle}.` }, column.title, el("span", { class: "not-comparable" }, " ≠"))
      : el("button", { type: "button", class: "sort", onclick: () => onSort(this.key) }, column.title);
    this.cell = el("th", { scope: "col", class: column.number ? "number" : null, "data-column": column.key }, this.button);
  }

  show(sort) {
    const here = sort.key === this.key;
    setAttribute(this.cell, "aria-sort", here ? (sort.descending ? "descending" : "ascending") : null);
  }
}

/** Order of a table as it stands in an address: "lr", or "-lr" for the highest first. */
export const sortText = ({ key, descending }) => (descending ? `-${key}` : key);

export function readSort(text, keys, fallback) {
  const descending = text.startsWith("-");
  const key = descending ? text.slice(1) : text;
  return keys.includes(key) ? { key, descending } : fallback;
}

/** The menu in which columns are chosen. */
export class ColumnMenu {
  /** @param onChange(names of the shown ones) */
  constructor(onChange) {
    this.list = el("div", { class: "choices", role: "group", "aria-label": "Columns" });
    this.node = menu({}, "Columns", this.list);
    this.onChange = onChange;
    this.told = "";
  }

  /** @param offered [{key, title}], @param shown names */
  update(offered, shown) {
    const told = JSON.stringify([offered, shown]);
    if (told === this.told) return;
    this.told = told;
    const boxes = offered.map(({ key, title }) => {
      const box = el("input", { type: "checkbox", value: key, checked: shown.includes(key) });
      box.addEventListener("change", () => this.onChange(offered.map(({ key: name }) => name).filter((name) => this.list.querySelector(`[value="${CSS.escape(name)}"]`).checked)));
      return el("label", {}, box, title);
    });
    const focused = document.activeElement?.value;
    const had = this.list.contains(document.activeElement);
    this.list.replaceChildren(...boxes);
    if (had) this.list.querySelector(`[value="${CSS.escape(focused)}"]`)?.focus();
  }
}
