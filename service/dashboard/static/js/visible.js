// Which configurations and trials pass the filter. Fields are the swept ones, the metrics, and state, seed, trial and
// epoch. A configuration passes by its own values and by any of its trials' states and seeds; a trial by its own.

import { parseFloatJson } from "./format.js";
import { matches, parseFilter } from "./filter.js";
import { metricNames } from "./words.js";

const OF_TRIALS = ["state", "seed", "trial", "epoch"];

export class Visible {
  constructor(data) {
    this.data = data;
    this.text = "";
    this.problem = "";
    this.terms = [];
    this.configurations = new Set();
    this.trials = new Set();
  }

  /** Names a term may begin with. */
  fields() {
    const swept = this.data.answer?.fields.map(({ name }) => name) ?? [];
    const reported = [...this.data.trials.values()].slice(0, 50).flatMap((trial) => Object.keys(trial.latest ?? {}));
    return [...new Set([...swept, ...OF_TRIALS, ...metricNames(), ...reported])];
  }

  update(text = this.text) {
    const { data } = this;
    this.text = text;
    const known = new Set(this.fields());
    const { terms, problem } = parseFilter(text, (field) => known.has(field));
    Object.assign(this, { terms, problem });
    const all = data.answer?.configurations ?? [];
    this.configurations = new Set(all.filter((c) => matches(terms, this.ofConfiguration(c))).map(({ number }) => number));
    this.trials = new Set([...data.trials.values()].filter((trial) => matches(terms, this.ofTrial(trial))).map(({ number }) => number));
  }

  ofConfiguration(configuration) {
    const { data } = this;
    const trials = () => configuration.trials.map((number) => data.trials.get(number)).filter(Boolean);
    return {
      text: configuration.label,
      value: (field) => {
        if (field in configuration.fields) return configuration.fields[field];
        if (OF_TRIALS.includes(field)) return trials().map((trial) => this.ofTrials(trial, field));
        const value = parseFloatJson(data.valueOf(configuration, field));
        return Number.isNaN(value) ? undefined : value;
      },
    };
  }

  ofTrial(trial) {
    const configuration = this.data.configurations.get(this.data.configurationOf.get(trial.number));
    return {
      text: trial.label ?? "",
      value: (field) => {
        if (configuration && field in configuration.fields) return configuration.fields[field];
        if (OF_TRIALS.includes(field)) return this.ofTrials(trial, field);
        const value = parseFloatJson(trial.latest?.[field]);
        return Number.isNaN(value) ? undefined : value;
      },
    };
  }

  ofTrials(trial, field) {
    if (field === "trial") return trial.number;
    if (field === "seed") return seedOf(trial, this.data.experiment.spec);
    return trial[field];
  }
}

export const seedOf = (trial, spec) => trial.params["training.seed"] ?? spec?.training?.seed ?? 0;
