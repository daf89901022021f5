// Extending an ended sweep: how many seeds, or how many configurations, from now on. The service says whether it goes.

import { extendExperiment } from "./api.js";
import { el, setText } from "./dom.js";

const MORE_SEEDS = 2; // suggested

/** What a spec has now, where it is a number that can grow; null else. */
function present({ search }) {
  const seeds = Array.isArray(search.seeds) ? search.seeds.length : (search.seeds?.most ?? search.seeds ?? 1);
  const sweepsSeeds = "training.seed" in (search.space ?? {});
  return { seeds: sweepsSeeds ? null : seeds, trials: search.trials ?? null };
}

export class ExtendForm {
  /** @param onDone(changed) */
  constructor(onDone) {
    this.onDone = onDone;
    this.seeds = this.number("seeds of each configuration");
    this.trials = this.number("configurations");
    this.failure = el("p", { class: "failure", role: "alert" });
    this.submit = el("button", { class: "primary", type: "submit" }, "Extend");
    this.form = el(
      "form",
      { class: "extend-form" },
      el("p", {}, "Train further, up to:"),
      this.seeds.label,
      this.trials.label,
      el("p", { class: "muted" }, "Trials that have a result are not trained again."),
      this.failure,
      el("div", { class: "row" }, this.submit, el("button", { type: "button", onclick: () => this.node.close() }, "Close")),
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.node = el("dialog", { class: "card extend", "aria-label": "Extend" }, this.form);
  }

  number(title) {
    const input = el("input", { type: "number", step: 1, required: true });
    return { input, label: el("label", {}, input, title) };
  }

  /** Whether there is something to extend. */
  static fits(experiment) {
    return Boolean(experiment.spec?.search);
  }

  open(experiment) {
    this.experiment = experiment;
    this.before = present(experiment.spec);
    for (const name of ["seeds", "trials"]) {
      const { input, label } = this[name];
      const now = this.before[name];
      label.hidden = now === null;
      input.disabled = now === null;
      input.min = now ?? 0;
      input.value = now === null ? "" : name === "seeds" ? now + MORE_SEEDS : now;
    }
    setText(this.failure, "");
    this.node.showModal();
    this.seeds.input.select();
  }

  async send() {
    const more = {};
    for (const name of ["seeds", "trials"]) {
      const value = Number(this[name].input.value);
      if (this.before[name] !== null && value !== this.before[name]) more[name] = value;
    }
    this.submit.disabled = true;
    try {
      const changed = await extendExperiment(this.experiment.id, more);
      this.node.close();
      this.onDone(changed);
    } catch (problem) {
      setText(this.failure, problem.detail ?? problem.message);
    } finally {
      this.submit.disabled = false;
    }
  }
}
