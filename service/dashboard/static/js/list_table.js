// The table of the list: a row an experiment, kept from one reading to the next, and heads that sort.

import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { absolute, ago, elapsed, metricValue } from "./format.js";
import { experimentPath } from "./router.js";
import { isEnded, metricInfo, trialCounts } from "./words.js";

// Title, name of the order, classes, and whether the first click shows the largest first.
const COLUMNS = [
  ["ID", "id", "number medium-up", true],
  ["Name", "name", "", false],
  ["State", "state", "", false],
  ["Trials", "trials", "", true],
  ["Best", "best", "", true],
  ["Owner", "owner", "wide-only", false],
  ["Created", "id", "medium-up", true],
  ["Duration", "duration", "number medium-up", true],
];

export class ExperimentTable {
  /** @param on {onSort(sort), onLabel("key=value"), onOwner(name), onPick()} */
  constructor(on) {
    this.on = on;
    this.rows = new Map(); // experiment id -> row
    this.picked = new Set();
    this.body = el("tbody");
    this.heads = COLUMNS.map((column) => this.head(...column));
    this.node = el(
      "div",
      { class: "card scroll" },
      el(
        "table",
        { class: "experiments" },
        el("caption", { class: "visually-hidden" }, "Experiments"),
        el("thead", {}, el("tr", {}, el("td", { class: "pick-cell medium-up" }), ...this.heads.map(({ cell }) => cell))),
        this.body,
      ),
    );
  }

  head(title, name, className, largestFirst) {
    const button = el("button", { type: "button", class: "sort" }, title);
    button.addEventListener("click", () => {
      const [first, second] = largestFirst ? [`-${name}`, name] : [name, `-${name}`];
      this.on.onSort(this.sort === first ? second : first);
    });
    return { name, cell: el("th", { scope: "col", class: className }, button) };
  }

  showSort(sort) {
    this.sort = sort;
    const name = sort.replace("-", "");
    let told = false; // ID and Created are the same order: one of them says so
    for (const head of this.heads) {
      const sorts = head.name === name && !told;
      told ||= sorts;
      setAttribute(head.cell, "aria-sort", sorts ? (sort.startsWith("-") ? "descending" : "ascending") : null);
    }
  }

  show(experiments) {
    const present = new Set(experiments.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (present.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
      if (this.picked.delete(id)) this.on.onPick();
    }
    experiments.forEach((experiment, index) => {
      if (!this.rows.has(experiment.id)) this.rows.set(experiment.id, new Row(experiment, this));
      const row = this.rows.get(experiment.id);
      row.update(experiment);
      if (this.body.children[index] !== row.node) this.body.insertBefore(row.node, this.body.children[index] ?? null);
    });
  }

  pick(id, picked) {
    if (picked) this.picked.add(id);
    else this.picked.delete(id);
    this.on.onPick();
  }
}

class Row {
  constructor({ id, name, labels, owner }, table) {
    const box = el("input", { type: "checkbox", "aria-label": `Choose ${name} (${id}) for comparison` });
    box.addEventListener("change", () => table.pick(id, box.checked));
    const chips = Object.entries(labels).sort().map(([key, value]) => {
      const label = `${key}=${value}`;
      return el("button", { type: "button", class: "chip", title: "List those with this label", onclick: () => table.on.onLabel(label) }, label);
    });
    this.state = stateBadge();
    this.waiting = el("span", { class: "muted waiting" });
    this.progress = progressBar("Trials done");
    this.counts = el("span", { class: "muted counts" });
    this.best = el("span", { class: "number" });
    this.bestMetric = el("span", { class: "muted best-metric" });
    this.created = el("time");
    this.duration = el("td", { class: "number medium-up" });
    const ownerButton = el("button", { type: "button", class: "quiet", title: "List theirs", onclick: () => table.on.onOwner(owner) }, owner);
    this.node = el(
      "tr",
      {},
      el("td", { class: "pick-cell medium-up" }, box),
      el("td", { class: "number muted medium-up" }, String(id)),
      el("th", { scope: "row" }, el("a", { class: "row-link", href: experimentPath(id) }, name), " ", el("span", { class: "chips" }, ...chips)),
      el("td", {}, this.state, this.waiting),
      el("td", {}, this.progress.node, this.counts),
      el("td", {}, this.best, " ", this.bestMetric),
      el("td", { class: "wide-only" }, ownerButton),
      el("td", { class: "medium-up" }, this.created),
      this.duration,
    );
  }

  update(experiment) {
    setState(this.state, experiment.state);
    if (experiment.state_reason) setAttribute(this.state, "title", experiment.state_reason);
    const { waiting } = experiment;
    setText(this.waiting, waiting ? (waiting.position === null ? waiting.reason : `${waiting.position}.: ${waiting.reason}`) : "");
    this.progress.set(experiment.trials_done, experiment.trial_count);
    setText(this.counts, trialCounts(experiment.trial_states ?? {}));
    const hasBest = experiment.best_value !== null;
    const metric = metricInfo(experiment.metric).title;
    setText(this.best, hasBest ? metricValue(experiment.best_value, experiment.metric) : "–");
    setAttribute(this.best, "title", hasBest ? `${metric} of trial ${experiment.best_trial}` : null);
    setText(this.bestMetric, hasBest ? metric : "");
    setText(this.created, ago(experiment.created_at));
    setAttribute(this.created, "datetime", experiment.created_at);
    setAttribute(this.created, "title", absolute(experiment.created_at));
    const running = experiment.started_at && !isEnded(experiment.state) ? null : experiment.ended_at;
    setText(this.duration, elapsed(experiment.started_at, running));
  }
}
