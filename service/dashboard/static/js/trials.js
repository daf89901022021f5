// The table of trials: state, epochs and last values of each, a column a swept field. Hovering a row brings its curves
// forward, its button keeps those of its configuration.

import { Heading, compare, readSort, sortText } from "./columns.js";
import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { fieldValue, metricValue, parseFloatJson, trialDetails } from "./format.js";
import { diffPath, trialPath } from "./router.js";
import { paintSwatch, swatch } from "./swatch.js";
import { VirtualRows } from "./virtual.js";
import { metricInfo, trialStateOrder } from "./words.js";

const ROW_PX = 30;

export class TrialTable {
  /**
   * @param parts {data, selection, colours, visible, view, shown() -> names of columns to show}
   * @param tools what stands in its head beside the title
   */
  constructor(parts, tools) {
    Object.assign(this, parts);
    this.head = el("thead");
    this.table = el("table", { class: "trials" }, el("caption", { class: "visually-hidden" }, "Trials with their latest values"), this.head);
    this.empty = el("p", { class: "table-empty" }, "Trials appear here when the experiment starts.");
    this.note = el("span", { class: "muted" });
    this.comparison = el("a", { hidden: true }, "Compare the selected");
    this.clear = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.selection.clear() }, "Clear selection");
    const scroller = el("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Trial table" }, this.table, this.empty);
    this.node = el(
      "section",
      { "aria-label": "Trials" },
      el("div", { class: "section-head" }, el("h2", {}, "Trials"), this.note, this.comparison, this.clear, el("span", { class: "head-tools" }, ...tools)),
      scroller,
    );
    this.rows = new VirtualRows({ table: this.table, scroller, height: ROW_PX, make: () => new Row(this), keyOf: ({ number }) => number });
    this.layout = "";
  }

  /** Columns: {key, title, number, obstacle, value(trial) to sort by, text(trial) where it is plain text}. */
  columns() {
    const { data } = this;
    const { answer } = data;
    const shown = this.shown();
    const fieldOf = (trial, name) => data.configurations.get(data.configurationOf.get(trial.number))?.fields[name];
    const swept = answer.fields.filter(({ name }) => shown.includes(name)).map(({ name, numeric, path }) => ({
      key: name, title: name, hint: path, className: "medium-up", number: numeric, value: (trial) => fieldOf(trial, name), text: (trial) => fieldValue(fieldOf(trial, name)),
    }));
    const latest = (name) => (trial) => {
      const value = parseFloatJson(trial.latest?.[name]);
      return Number.isFinite(value) ? value : null;
    };
    // The metric that ranks comes first: on a phone it is the one that fits.
    const metrics = shown.filter((name) => !answer.fields.some((field) => field.name === name)).sort((a, b) => (b === answer.metric) - (a === answer.metric));
    const values = metrics.map((name) => ({
      key: `latest.${name}`, title: metricInfo(name).title, number: true, className: name === answer.metric ? "" : "medium-up", metric: name,
      obstacle: answer.not_comparable[name], value: latest(name), text: (trial) => metricValue(trial.latest?.[name], name),
    }));
    return [
      { key: "number", title: "Trial", value: (trial) => trial.number },
      { key: "label", title: "Configuration", value: (trial) => trial.label },
      ...swept,
      { key: "state", title: "State", value: (trial) => trialStateOrder(trial.state) },
      { key: "epoch", title: "Epoch", className: "medium-up", value: (trial) => trial.epoch },
      ...values,
    ];
  }

  layOut(bestFirst) {
    this.described = this.columns();
    const layout = JSON.stringify(this.described.map(({ key, title, obstacle }) => [key, title, obstacle]));
    if (layout === this.layout) return;
    this.layout = layout;
    this.headings = this.described.map((column) => new Heading(column, (key) => this.sortBy(key)));
    this.headings.forEach(({ cell, button }, k) => {
      const { className, hint } = this.described[k];
      if (className) cell.classList.add(className);
      if (hint) button.title = hint;
    });
    this.head.replaceChildren(el("tr", {}, ...this.headings.map(({ cell }) => cell)));
    this.rows.rows.clear();
    const { metric, mode, not_comparable: obstacles } = this.data.answer;
    const best = { key: `latest.${metric}`, descending: mode !== "min" };
    const fallback = bestFirst && !obstacles[metric] ? best : { key: "number", descending: false };
    this.sort = readSort(this.view.get("trials"), this.described.map(({ key }) => key), this.sort ?? fallback);
  }

  /** @param bestFirst whether it is settled who they are: rows that swap places under the pointer are a nuisance */
  update(bestFirst) {
    const { data, visible, selection } = this;
    this.layOut(bestFirst);
    const shown = [...data.trials.values()].filter(({ number }) => visible.trials.has(number));
    this.empty.hidden = shown.length > 0;
    setText(this.empty, data.trials.size ? "No trial passes the filter." : "Trials appear here when the experiment starts.");
    const { key, descending } = this.sort;
    const column = this.described.find((one) => one.key === key) ?? this.described[0];
    for (const heading of this.headings) heading.show(this.sort);
    const sorted = shown.map((trial) => [trial, column.value(trial)]).sort((a, b) => compare(a[1], b[1], descending) || a[0].number - b[0].number);
    this.rows.update(sorted.map(([trial]) => trial));
    this.clear.hidden = selection.picked.size === 0;
    this.showComparison(shown);
    setText(this.note, this.noteText(shown.length));
  }

  /** A link to what differs between the picked configurations, by a trial of each. */
  showComparison(shown) {
    const { data, selection } = this;
    const trials = new Map();
    for (const { number } of shown) {
      const configuration = data.configurationOf.get(number);
      if (selection.picked.has(configuration) && !trials.has(configuration)) trials.set(configuration, number);
    }
    this.comparison.hidden = trials.size < 2;
    this.comparison.href = diffPath([...trials.values()].map((number) => `${data.id}.${number}`));
  }

  noteText(shown) {
    const { data, selection } = this;
    const all = data.trials.size;
    const parts = shown < all ? [`${shown} of ${all} shown`] : [];
    if (selection.picked.size) parts.push(`${selection.coloured.size} of ${selection.total} configurations selected`);
    else if (selection.total > selection.coloured.size) parts.push(`best ${selection.coloured.size} of ${selection.total} configurations in colour; select rows to choose others`);
    return parts.join(" · ");
  }

  sortBy(key) {
    const { sort } = this;
    const metric = key.startsWith("latest.") ? key.slice("latest.".length) : null;
    const lowestFirst = metric === null || metricInfo(metric).higher_is_better === false || (metric === this.data.answer.metric && this.data.answer.mode === "min");
    // Values are first looked at from the top, names and numbers from the beginning.
    this.sort = { key, descending: sort.key === key ? !sort.descending : !lowestFirst };
    this.view.set({ trials: sortText(this.sort) });
    this.update(false);
  }

  showFocus() {
    const { focused } = this.selection;
    for (const row of this.rows.rows.values()) {
      const here = focused !== null && row.configuration === focused.configuration && (focused.trial === null || focused.trial === row.trial.number);
      row.node.classList.toggle("focused", here);
    }
  }
}

class Row {
  constructor(table) {
    this.owner = table;
    const { selection, described } = table;
    this.swatch = swatch({ colour: "", dash: [] });
    this.number = el("a", { class: "pick-number", title: "Open this trial" });
    this.pick = el("button", { type: "button", class: "pick", "aria-pressed": "false", title: "Keep its curves in front" }, this.swatch);
    this.label = el("span", { class: "label" });
    this.error = el("span", { class: "trial-error", hidden: true });
    this.reason = el("span", { class: "trial-reason muted", hidden: true });
    this.state = stateBadge();
    this.epochs = progressBar("Epochs done");
    const own = {
      number: () => el("th", { scope: "row" }, this.pick, this.number),
      label: () => el("td", { class: "label-cell" }, this.label, this.reason, this.error),
      state: () => el("td", {}, this.state),
      epoch: () => el("td", { class: "medium-up" }, this.epochs.node),
    };
    this.cells = described.map(({ key, number, className }) => own[key]?.() ?? el("td", { class: [number ? "number" : "", className ?? ""].join(" ").trim() || null }));
    this.node = el(
      "tr",
      {
        onclick: (event) => event.target.closest("a") === null && this.configuration !== undefined && selection.toggle(this.configuration),
        onmouseenter: () => this.focus(),
        onmouseleave: () => selection.focus(null),
        onfocusin: () => this.focus(),
        onfocusout: () => selection.focus(null),
      },
      ...this.cells,
    );
  }

  focus() {
    if (this.configuration !== undefined) this.owner.selection.focus(this.configuration, this.trial.number);
  }

  update(trial) {
    const { data, selection, colours, described } = this.owner;
    this.trial = trial;
    this.configuration = data.configurationOf.get(trial.number);
    this.number.href = trialPath(trial.experiment_id, trial.number);
    setText(this.number, String(trial.number));
    setAttribute(this.pick, "aria-label", `Keep the curves of ${trial.label} in front`);
    setAttribute(this.pick, "aria-pressed", String(selection.picked.has(this.configuration)));
    this.node.classList.toggle("picked", selection.picked.has(this.configuration));
    this.node.classList.toggle("dimmed", !selection.isColoured(this.configuration));
    paintSwatch(this.swatch, colours.of(this.configuration));
    setText(this.label, trial.label);
    setAttribute(this.label, "title", trialDetails(trial.params) || null);
    setState(this.state, trial.state);
    for (const [node, text] of [[this.reason, trial.reason], [this.error, trial.error]]) {
      node.hidden = !text;
      setText(node, text ?? "");
      setAttribute(node, "title", text);
    }
    this.epochs.set(trial.epoch, trial.epochs);
    described.forEach(({ text, metric }, k) => {
      if (!text) return;
      const told = text(trial);
      setText(this.cells[k], told);
      if (metric) this.cells[k].classList.toggle("lost", told === "NaN" || told.endsWith("∞"));
    });
  }
}
