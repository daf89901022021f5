// The answer at the top of an experiment's page: the statement, why and notes, and the table of configurations.
// Words and numbers are the service's.

import { saveMenu } from "./chart_files.js";
import { ConfigurationTable } from "./configurations.js";
import { el, setText } from "./dom.js";
import { intervalPlotFile } from "./interval_plot_file.js";

export class AnswerPanel {
  constructor(parts) {
    this.sentence = el("p", { class: "answer-sentence", role: "status" });
    this.why = el("p", { class: "answer-why" });
    this.notes = el("div");
    this.told = "";
    this.table = new ConfigurationTable(parts);
    this.save = saveMenu(intervalPlotFile(this.table), "the answer");
    this.node = el("section", { class: "answer card", "aria-label": "Answer", hidden: true }, this.save, this.sentence, this.why, this.notes, this.table.node);
  }

  update(answer) {
    this.node.hidden = false;
    setText(this.sentence, answer.sentence);
    setText(this.why, answer.why ?? "");
    this.why.hidden = !answer.why;
    const notes = answer.selection ? [...answer.notes, answer.selection] : answer.notes;
    if (notes.join("\n") !== this.told) this.notes.replaceChildren(...notes.map((note) => el("p", { class: "answer-note" }, note)));
    this.told = notes.join("\n");
    this.table.update(answer);
    this.save.hidden = this.table.node.hidden;
  }
}
