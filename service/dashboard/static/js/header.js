// The head of an experiment's page: name, state and reason, progress, time, actions.

import { ActionButtons } from "./actions.js";
import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { absolute, ago, elapsed } from "./format.js";
import { stateInfo, trialStateOrder } from "./words.js";

export class ExperimentHeader {
  constructor(rights) {
    this.actions = new ActionButtons(rights);
    this.name = el("h1");
    this.id = el("span", { class: "muted number" });
    this.state = stateBadge(true);
    this.description = el("p", { class: "description" });
    this.reason = el("p", { class: "reason" });
    this.counts = el("span", { class: "counts" });
    this.progress = progressBar("Trials done");
    this.facts = {};
    this.node = el(
      "header",
      { class: "experiment-head" },
      el("div", { class: "experiment-title" }, this.name, this.id, this.state, this.actions.node),
      this.description,
      this.reason,
      this.actions.message,
      el(
        "dl",
        { class: "facts" },
        fact("Trials", el("span", {}, this.progress.node, " ", this.counts)),
        this.fact("Duration"),
        this.fact("Attempt"),
        this.fact("Owner"),
        this.fact("Created"),
      ),
    );
  }

  fact(name) {
    this.facts[name] = el("span");
    return fact(name, this.facts[name]);
  }

  /** @param trials all of them */
  update(experiment, trials) {
    this.experiment = experiment;
    setText(this.name, experiment.name);
    setText(this.id, `#${experiment.id}`);
    setState(this.state, experiment.state);
    const { waiting } = experiment;
    setText(this.description, experiment.spec?.description ?? "");
    const place = waiting ? `Waiting: ${waiting.reason}.${waiting.position ? ` Place ${waiting.position} in the queue.` : ""}` : "";
    setText(this.reason, [experiment.state_reason, place].filter(Boolean).join(" · "));
    this.reason.classList.toggle("failure", experiment.state === "failed");
    this.progress.set(experiment.trials_done, experiment.trial_count);
    setText(this.counts, countsOf(trials));
    setText(this.facts.Attempt, String(experiment.attempt ?? "–"));
    setText(this.facts.Owner, experiment.owner ?? "–");
    setAttribute(this.facts.Created, "title", absolute(experiment.created_at));
    this.actions.update(experiment);
    this.tick();
  }

  /** Times that move by themselves. */
  tick() {
    if (!this.experiment) return;
    const { started_at: start, ended_at: end, created_at: created } = this.experiment;
    setText(this.facts.Duration, elapsed(start, end));
    setText(this.facts.Created, ago(created));
  }
}

/** "1 succeeded, 2 failed": what a bare number of trials would hide. */
function countsOf(trials) {
  const counts = new Map();
  for (const { state } of trials) counts.set(state, (counts.get(state) ?? 0) + 1);
  const begun = [...counts].filter(([state]) => stateInfo(state).tone !== "open");
  const told = begun.sort(([a], [b]) => trialStateOrder(a) - trialStateOrder(b));
  return told.map(([state, count]) => `${count} ${state}`).join(", ");
}

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}
