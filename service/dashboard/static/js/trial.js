// The page of one trial: what it is, how it went, its curves, its whole configuration, its log and its encoder. It is
// read again every few seconds until the trial has ended.

import { encoderUrl, findTrial, getAttempts, getExperiment, getTrial, getTrialLogs, getTrialMetrics } from "./api.js";
import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { flatten, written } from "./fields.js";
import { absolute, elapsed, metricValue } from "./format.js";
import { notice, problemNotice } from "./notice.js";
import { diffPath, experimentPath, trialPath } from "./router.js";
import { onThemeChange } from "./theme.js";
import { TrialCurves } from "./trial_curves.js";
import { inOrder, isTrialEnded, metricInfo, stateInfo } from "./words.js";

const REFRESH_MS = 4000;
const POINTS = 500;
const LONGEST_LOG = 400_000; // characters shown; the end matters

export function mountTrial(root, { id, number, session, page }) {
  const view = new TrialPage(root, id, number, session, page);
  view.load();
  return () => view.dispose();
}

class TrialPage {
  constructor(root, id, number, session, page) {
    Object.assign(this, { root, id, number, session, page });
    this.closed = new AbortController();
    this.timer = setInterval(() => !document.hidden && this.trial && !isTrialEnded(this.trial.state) && this.load(), REFRESH_MS);
    onThemeChange(() => this.curves?.redraw(), this.closed.signal);
    page.setTitle(`Trial ${number} of ${id}`);
  }

  dispose() {
    this.closed.abort();
    clearInterval(this.timer);
    this.curves?.dispose();
  }

  async load() {
    const { signal } = this.closed;
    try {
      const [experiment, found, attempts] = await Promise.all([
        getExperiment(this.id, signal),
        this.trial ?? findTrial(this.id, this.number, signal),
        getAttempts(this.id, signal),
      ]);
      if (found === null) {
        this.root.replaceChildren(notice("No such trial", `Experiment ${this.id} has no trial ${this.number}.`, { home: true }));
        return;
      }
      this.trial = await getTrial(found.id, signal);
      if (!this.curves) this.build(experiment);
      this.show(experiment, attempts.items);
      const names = inOrder(Object.keys(this.trial.latest));
      if (names.length) this.curves.show((await getTrialMetrics(this.trial.id, names, POINTS, signal)).series, names);
      this.page.setLive(null);
    } catch (problem) {
      if (problem.name === "AbortError" || problem.status === 401) return;
      if (this.curves && problem.status !== 404) this.page.setLive("lost", "reconnecting");
      else this.root.replaceChildren(problemNotice(problem, problem.status === 404 ? null : () => this.load(), true));
    }
  }

  build(experiment) {
    this.curves = new TrialCurves();
    this.state = stateBadge(true);
    this.label = el("p", { class: "trial-label" });
    this.reason = el("p", { class: "reason" });
    this.epochs = progressBar("Epochs done");
    this.facts = Object.fromEntries(["Duration", "Began", "Ended"].map((name) => [name, el("span")]));
    this.values = el("tbody");
    this.attempts = el("tbody");
    this.encoder = el("a", { class: "button primary", download: true, hidden: true }, "Download the encoder");
    this.against = el("a", { class: "button", hidden: true }, "Compare with the best");
    const { number } = this;
    const facts = Object.entries(this.facts).map(([name, node]) => fact(name, node));
    this.root.replaceChildren(
      el(
        "header",
        { class: "experiment-head" },
        el(
          "div",
          { class: "experiment-title" },
          el("h1", {}, `Trial ${number}`),
          el("span", { class: "muted" }, "of ", el("a", { href: experimentPath(this.id) }, `${experiment.name} #${this.id}`)),
          this.state,
          el("span", { class: "actions" }, this.against, this.encoder),
        ),
        this.label,
        this.reason,
        el("dl", { class: "facts" }, fact("Epochs", this.epochs.node), ...facts),
        el(
          "nav",
          { class: "neighbours", "aria-label": "Trials beside it" },
          number > 0 ? el("a", { href: trialPath(this.id, number - 1) }, `← trial ${number - 1}`) : null,
          number + 1 < experiment.trial_count ? el("a", { href: trialPath(this.id, number + 1) }, `trial ${number + 1} →`) : null,
        ),
      ),
      el("section", { "aria-label": "Curves" }, el("h2", {}, "Curves"), this.curves.node),
      el(
        "div",
        { class: "trial-tables" },
        el("section", {}, el("h2", {}, "Last values"), table("Last values", null, this.values)),
        el("section", {}, el("h2", {}, "Configuration"), configuration(this.trial)),
      ),
      el("section", {}, el("h2", {}, "Attempts"), table("Attempts of the experiment", ["Attempt", "State", "Began", "Ended", "Duration", "Error"], this.attempts)),
      this.logPanel(),
    );
  }

  show(experiment, attempts) {
    const { trial } = this;
    setState(this.state, trial.state);
    setText(this.label, trial.label);
    setText(this.reason, trial.error ?? trial.reason ?? "");
    this.reason.classList.toggle("failure", Boolean(trial.error));
    this.epochs.set(trial.epoch, trial.epochs);
    setText(this.facts.Duration, elapsed(trial.started_at, trial.ended_at));
    setText(this.facts.Began, trial.started_at ? absolute(trial.started_at) : "–");
    setText(this.facts.Ended, trial.ended_at ? absolute(trial.ended_at) : "–");
    // One that ended well, early or not, has exported one.
    this.encoder.hidden = !isTrialEnded(trial.state) || stateInfo(trial.state).tone === "bad";
    setAttribute(this.encoder, "href", encoderUrl(trial.id));
    const best = experiment.best_trial;
    this.against.hidden = best === null || best === this.number;
    setAttribute(this.against, "href", diffPath([`${this.id}.${best}`, `${this.id}.${this.number}`]));
    this.values.replaceChildren(
      ...inOrder(Object.keys(trial.latest)).map((name) =>
        el("tr", {}, el("th", { scope: "row", title: metricInfo(name).description || null }, metricInfo(name).title), el("td", { class: "number" }, metricValue(trial.latest[name], name))),
      ),
    );
    this.attempts.replaceChildren(...attempts.map((attempt) => attemptRow(attempt, trial)));
  }

  logPanel() {
    const text = el("pre", { class: "log", tabindex: 0 });
    const read = async () => {
      try {
        const log = await getTrialLogs(this.trial.id, this.closed.signal);
        setText(text, log.length > LONGEST_LOG ? `… earlier lines left out\n${log.slice(-LONGEST_LOG)}` : log || "Nothing logged yet.");
        text.scrollTop = text.scrollHeight;
      } catch (problem) {
        if (problem.name !== "AbortError") setText(text, problem.detail ?? problem.message);
      }
    };
    const tools = el("div", { class: "panel-tools" }, el("button", { type: "button", onclick: read }, "Refresh"));
    const node = el("details", { class: "card panel" }, el("summary", {}, "Log"), tools, text);
    node.addEventListener("toggle", () => node.open && read());
    return el("div", { class: "panels" }, node);
  }
}

/** Every field of the trial's spec; those the search chose stand out. */
function configuration({ spec, params }) {
  const body = el("tbody");
  const chosen = Object.keys(params);
  const varied = (path) => chosen.some((one) => path === one || path.startsWith(`${one}.`));
  const fields = [...flatten(spec)].sort(([a], [b]) => varied(b) - varied(a) || a.localeCompare(b));
  for (const [path, value] of fields) {
    const varies = varied(path);
    body.append(el("tr", { class: varies ? "chosen" : null }, el("th", { scope: "row" }, el("code", {}, path)), el("td", {}, written(value), varies ? el("span", { class: "chip" }, "varied") : null)));
  }
  return table("Configuration", null, body, "tall");
}

function attemptRow({ number, state, error, started_at: began, ended_at: ended }, trial) {
  const badge = stateBadge();
  setState(badge, state);
  // Within its time the trial ran.
  const held = trial.started_at && began && (!trial.ended_at || began <= trial.ended_at) && (!ended || ended >= trial.started_at);
  return el(
    "tr",
    { class: held ? "chosen" : null },
    el("th", { scope: "row" }, String(number), held ? el("span", { class: "chip" }, "trained it") : null),
    el("td", {}, badge),
    el("td", {}, began ? absolute(began) : "–"),
    el("td", {}, ended ? absolute(ended) : "–"),
    el("td", {}, elapsed(began, ended)),
    el("td", { class: "wrapping" }, error ?? ""),
  );
}

function table(title, heads, body, className = "") {
  const head = heads && el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text))));
  return el(
    "div",
    { class: `card scroll ${className}`, tabindex: 0, role: "region", "aria-label": title },
    el("table", { class: "plain" }, el("caption", { class: "visually-hidden" }, title), head || null, body),
  );
}

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
