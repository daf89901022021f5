// The importance of swept fields, as the service tells it: a bar a field with its interval, or why there is none.

import { getImportance } from "./api.js";
import { el, setText } from "./dom.js";
import { intervalPlot, scaleOf } from "./intervals.js";

const AGAIN_MS = 10_000; // at least, between two readings while a sweep runs

export class ImportancePanel {
  constructor(id, signal) {
    Object.assign(this, { id, signal, stale: true, read: 0 });
    this.sentence = el("p", { class: "importance-sentence" }, "Loading…");
    this.rows = el("tbody");
    this.table = el(
      "table",
      { class: "importance" },
      el("caption", { class: "visually-hidden" }, "Importance of swept fields"),
      el("thead", {}, el("tr", {}, ...["field", "explains", "95 % interval, 0 to 100 %", "configurations"].map((title) => el("th", { scope: "col" }, title)))),
      this.rows,
    );
    this.node = el(
      "details",
      { class: "card panel importance-panel" },
      el("summary", {}, "Importance of fields"),
      el("div", { class: "panel-body" }, this.sentence, this.table),
    );
    this.node.addEventListener("toggle", () => this.show());
  }

  /** There is another answer. */
  changed() {
    this.stale = true;
    this.show();
  }

  async show() {
    if (!this.node.open || !this.stale || Date.now() - this.read < AGAIN_MS) return;
    this.stale = false;
    this.read = Date.now();
    try {
      this.draw(await getImportance(this.id, this.signal));
    } catch (problem) {
      if (problem.name !== "AbortError") setText(this.sentence, problem.message);
    }
  }

  draw({ sentence, fields }) {
    setText(this.sentence, sentence);
    this.table.hidden = fields.length === 0;
    const scale = scaleOf([{}], () => [0, 1]);
    const rows = fields.map(({ field, within, configurations, share, low, high, refused }) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, field, within ? el("span", { class: "muted" }, ` within ${within}`) : null),
        el("td", { class: "number" }, share === null ? "–" : `${Math.round(100 * share)} %`),
        share === null ? el("td", { class: "muted" }, refused) : el("td", { class: "plot-cell" }, intervalPlot(scale, share, [low, high], [], 0)),
        el("td", { class: "number" }, String(configurations)),
      ),
    );
    this.rows.replaceChildren(...rows);
  }
}
