// The table of trials: also the legend of the plots. Hovering a row brings its curves forward, its button keeps them.

import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { metricValue, parseFloatJson, trialDetails } from "./format.js";
import { metricInfo, chartMetrics, trialStateOrder } from "./words.js";
import { swatch } from "./swatch.js";

export class TrialTable {
  /** @param metric, mode what ranks the trials, @param bestFirst in that order from the start */
  constructor(selection, metric, mode, bestFirst) {
    this.selection = selection;
    this.values = [...new Set([...chartMetrics(), metric])];
    this.rising = new Set([...this.values.filter((name) => metricInfo(name).higher_is_better === false), ...(mode === "min" ? [metric] : [])]); // where the lowest is looked at first
    this.rows = new Map(); // trial number -> row
    this.sort = bestFirst ? { key: metric, descending: mode !== "min" } : { key: "number", descending: false };
    this.spec = null;
    this.columns = this.describeColumns();
    this.buttons = new Map();
    this.body = el("tbody");
    this.empty = el("p", { class: "table-empty" }, "Trials appear here when the experiment starts.");
    this.note = el("span", { class: "muted" });
    this.clear = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => selection.clear() }, "Clear selection");
    this.node = el(
      "section",
      { "aria-label": "Trials" },
      el("div", { class: "section-head" }, el("h2", {}, "Trials"), this.note, this.clear),
      el("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Trial table" }, this.table(), this.empty),
    );
  }

  describeColumns() {
    const latest = (name) => (trial) => {
      const value = parseFloatJson(trial.latest?.[name]);
      return Number.isFinite(value) ? value : null;
    };
    return [
      { key: "number", title: "Trial", value: (trial) => trial.number },
      { key: "label", title: "Weighting", value: (trial) => trial.label },
      { key: "state", title: "State", value: (trial) => trialStateOrder(trial.state) },
      { key: "epoch", title: "Epoch", value: (trial) => trial.epoch },
      ...this.values.map((name) => ({ key: name, title: metricInfo(name).title, value: latest(name), number: true })),
    ];
  }

  table() {
    const heads = this.columns.map(({ key, title, number }) => {
      const button = el("button", { type: "button", class: "sort", onclick: () => this.sortBy(key) }, title);
      const cell = el("th", { scope: "col", class: number ? "number" : null }, button);
      this.buttons.set(key, { button, cell });
      return cell;
    });
    return el(
      "table",
      { class: "trials" },
      el("caption", { class: "visually-hidden" }, "Trials with their latest values"),
      el("thead", {}, el("tr", {}, ...heads)),
      this.body,
    );
  }

  update(trials, spec) {
    this.spec = spec;
    this.empty.hidden = trials.length > 0;
    for (const trial of trials) {
      if (!this.rows.has(trial.number)) this.rows.set(trial.number, new Row(trial, this.selection, this.values));
      this.rows.get(trial.number).update(trial, spec);
    }
    const onlyWeighting = trials.every((trial) => Object.keys(trial.params).every((path) => path.startsWith("objective.weighting")));
    setText(this.buttons.get("label").button, onlyWeighting ? "Weighting" : "Parameters");
    this.order();
    this.showSelection();
  }

  sortBy(key) {
    const { sort } = this;
    // Values are first looked at from the top, names and numbers from the beginning.
    this.sort = { key, descending: sort.key === key ? !sort.descending : this.values.includes(key) && !this.rising.has(key) };
    this.order();
  }

  order() {
    const { key, descending } = this.sort;
    for (const [name, { cell }] of this.buttons) {
      setAttribute(cell, "aria-sort", name === key ? (descending ? "descending" : "ascending") : null);
    }
    const { value } = this.columns.find((column) => column.key === key);
    const rows = [...this.rows.values()].map((row) => ({ row, value: value(row.trial) }));
    rows.sort((a, b) => compare(a.value, b.value, descending) || a.row.trial.number - b.row.trial.number);
    rows.forEach(({ row }, index) => {
      if (this.body.children[index] !== row.node) this.body.insertBefore(row.node, this.body.children[index] ?? null);
    });
  }

  showSelection() {
    const { selection } = this;
    for (const row of this.rows.values()) row.showSelection();
    this.clear.hidden = selection.picked.size === 0;
    const dimmed = selection.total - selection.coloured.size;
    let note = "";
    if (selection.picked.size) note = `${selection.picked.size} of ${selection.total} selected`;
    else if (dimmed > 0) note = `best ${selection.coloured.size} of ${selection.total} in colour; select rows to choose others`;
    setText(this.note, note);
  }

  showFocus() {
    for (const [number, row] of this.rows) row.node.classList.toggle("focused", number === this.selection.focused);
  }
}

/** Absent values go last either way. */
function compare(a, b, descending) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  return descending ? -order : order;
}

class Row {
  constructor({ number }, selection, names) {
    Object.assign(this, { selection, number, names });
    this.button = el(
      "button",
      { type: "button", class: "pick", "aria-pressed": "false", title: "Keep this trial's curves in front" },
      swatch(number),
      el("span", { class: "pick-number" }, String(number)),
    );
    this.label = el("span", { class: "label" });
    this.error = el("span", { class: "trial-error", hidden: true });
    this.reason = el("span", { class: "trial-reason muted", hidden: true });
    this.state = stateBadge();
    this.epochs = progressBar("Epochs done");
    this.values = names.map(() => el("td", { class: "number" }));
    this.node = el(
      "tr",
      {
        onclick: () => selection.toggle(number),
        onmouseenter: () => selection.focus(number),
        onmouseleave: () => selection.focus(null),
        onfocusin: () => selection.focus(number),
        onfocusout: () => selection.focus(null),
      },
      el("th", { scope: "row" }, this.button),
      el("td", { class: "label-cell" }, this.label, this.reason, this.error),
      el("td", {}, this.state),
      el("td", {}, this.epochs.node),
      ...this.values,
    );
  }

  update(trial, spec) {
    this.trial = trial;
    setText(this.label, trial.label);
    setAttribute(this.label, "title", trialDetails(trial.params) || null);
    setState(this.state, trial.state);
    this.reason.hidden = !trial.reason;
    setText(this.reason, trial.reason ?? "");
    this.error.hidden = !trial.error;
    setText(this.error, trial.error ?? "");
    setAttribute(this.error, "title", trial.error);
    this.epochs.set(trial.epoch, trial.epochs);
    this.names.forEach((name, index) => {
      const text = metricValue(trial.latest?.[name], name);
      setText(this.values[index], text);
      this.values[index].classList.toggle("lost", text === "NaN" || text.endsWith("∞"));
    });
  }

  showSelection() {
    const { selection, number } = this;
    setAttribute(this.button, "aria-pressed", String(selection.picked.has(number)));
    this.node.classList.toggle("picked", selection.picked.has(number));
    this.node.classList.toggle("dimmed", !selection.isColoured(number));
  }
}
