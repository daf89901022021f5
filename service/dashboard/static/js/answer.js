// The answer at the top of an experiment's page: the statement, why, notes, and a row a configuration with its intervals.
// Words and numbers are the service's; only the drawing is done here.

import { el, setText } from "./dom.js";
import { intervalPlot, scaleOf } from "./intervals.js";

const ROWS = 40;
const BESIDE_METRIC = 2; // columns before the metric's: configuration and seeds
const BESIDE_DIFFERENCE = 3;
const STANDING = 5;

export class AnswerPanel {
  constructor() {
    this.sentence = el("p", { class: "answer-sentence", role: "status" });
    this.why = el("p", { class: "answer-why" });
    this.notes = el("div");
    this.table = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Configurations" });
    this.rows = ROWS;
    this.node = el(
      "section",
      { class: "answer card", "aria-label": "Answer", hidden: true },
      this.sentence,
      this.why,
      this.notes,
      this.table,
    );
  }

  update(answer) {
    this.answer = answer;
    this.node.hidden = false;
    setText(this.sentence, answer.sentence);
    setText(this.why, answer.why ?? "");
    this.why.hidden = !answer.why;
    const notes = answer.selection ? [...answer.notes, answer.selection] : answer.notes;
    this.notes.replaceChildren(...notes.map((note) => el("p", { class: "answer-note" }, note)));
    this.showTable();
  }

  showTable() {
    const { answer } = this;
    const measured = answer.configurations.some(({ seeds }) => seeds.length > 0);
    this.table.hidden = !measured;
    if (!measured) return;
    const values = scaleOf(answer.configurations, (c) => [...c.values, ...ends(c.statistics[answer.metric], "low", "high")]);
    const differences = scaleOf(answer.configurations, (c) => [0, ...ends(c.differences[answer.metric], "low_adjusted", "high_adjusted")]);
    const heads = withPlots(answer.columns, "95 % interval", "to the leader");
    const rows = answer.configurations.slice(0, this.rows).map((c) => row(c, answer.metric, values, differences));
    const left = answer.configurations.length - rows.length;
    this.table.replaceChildren(
      el(
        "table",
        {},
        el("caption", { class: "visually-hidden" }, "Configurations with their intervals"),
        el("thead", {}, el("tr", {}, ...heads.map((title) => el("th", { scope: "col" }, title)))),
        el("tbody", {}, ...rows),
      ),
      ...(left > 0 ? [el("button", { type: "button", class: "quiet", onclick: () => this.showAll() }, `Show ${left} more configurations`)] : []),
    );
  }

  showAll() {
    this.rows = Infinity;
    this.showTable();
  }
}

function row(configuration, metric, values, differences) {
  const { standing, cells, statistics, differences: to } = configuration;
  const mean = statistics[metric];
  const other = to[metric];
  const plots = [
    mean ? intervalPlot(values, mean.mean, ends(mean, "low", "high"), configuration.values) : null,
    other ? intervalPlot(differences, other.mean, ends(other, "low_adjusted", "high_adjusted"), [], 0) : null,
  ];
  const texts = cells.map((text, k) => (k === STANDING ? el("td", { class: "standing" }, text) : el("td", {}, text)));
  texts[0] = el("th", { scope: "row" }, cells[0]);
  return el("tr", { "data-standing": standing }, ...withPlots(texts, ...plots.map((plot) => el("td", { class: "plot-cell" }, plot))));
}

/** The interval's ends, where it has some. */
function ends(found, low, high) {
  return found && found[low] !== null ? [found[low], found[high]] : [];
}

/** Cells with one before the metric's and one before the difference's. */
function withPlots(cells, first, second) {
  return [...cells.slice(0, BESIDE_METRIC), first, ...cells.slice(BESIDE_METRIC, BESIDE_DIFFERENCE), second, ...cells.slice(BESIDE_DIFFERENCE)];
}
