// The page of one experiment: reads it, follows it live, and brings changes to header, plots and table in batches.

import { AnswerPanel } from "./answer.js";
import { getAnswer, getExperiment, getMetrics, getTrials } from "./api.js";
import { ChartGroup, X_AXES } from "./charts.js";
import { el } from "./dom.js";
import { FrameBatch } from "./frames.js";
import { ExperimentHeader } from "./header.js";
import { LiveStream } from "./live.js";
import { isEnded, isTrialEnded, metricInfo, metricNames, chartMetrics } from "./words.js";
import { problemNotice } from "./notice.js";
import { dataPanel, logsPanel, specPanel } from "./panels.js";
import { PhasePlot } from "./phase.js";
import { Selection } from "./selection.js";
import { SeriesStore } from "./series.js";
import { onThemeChange } from "./theme.js";
import { Tooltip } from "./tooltip.js";
import { TrialTable } from "./trials.js";

const CHOSEN_AT_FIRST = "erank_r";
const POINTS_AT_ONCE = 24_000; // of one metric over all trials: what a screen can show
const ANSWER_MS = 3000; // at least, between two answers while trials end
const QUEUE_MS = 4000; // between two looks at the place in the queue
const LINGER_MS = 20_000; // the stream stays open this long after the end, for late points

export function mountExperiment(root, { id, session, page }) {
  const view = new ExperimentPage(root, id, session, page);
  view.load();
  return () => view.dispose();
}

class ExperimentPage {
  constructor(root, id, session, page) {
    Object.assign(this, { root, id, session, page });
    this.closed = new AbortController();
    this.store = new SeriesStore();
    this.trials = new Map(); // number -> Trial
    this.experiment = null;
    this.tooltip = new Tooltip();
    this.selection = new Selection(() => this.showSelection(), () => this.showFocus());
    this.batch = new FrameBatch(() => this.render());
    this.stream = new LiveStream(
      id,
      (kind, data) => this.take(kind, data),
      (status) => this.showLive(status),
      () => this.look(),
    );
    this.clock = setInterval(() => this.header?.tick(), 1000);
    this.queueClock = setInterval(() => this.watchQueue(), QUEUE_MS);
    const { signal } = this.closed;
    document.addEventListener("visibilitychange", () => this.lookedAt(!document.hidden), { signal });
    onThemeChange(() => this.redraw(), signal);
    page.setTitle(`Experiment ${id}`);
  }

  dispose() {
    this.closed.abort();
    clearInterval(this.clock);
    clearInterval(this.queueClock);
    clearTimeout(this.lingering);
    clearTimeout(this.again);
    clearTimeout(this.answering);
    this.stream.close();
    this.batch.dispose();
    this.tooltip.dispose();
    this.group?.dispose();
    this.phase?.dispose();
  }

  /** Read everything, then follow. Also after the page was hidden: what is there is merged, so nothing flickers. */
  async load() {
    const { signal } = this.closed;
    try {
      await this.readStates();
      if (!this.header) this.build();
      this.render();
      const { seq, series } = await getMetrics(this.id, [...this.store.metrics.keys()], this.resolution(), signal);
      this.store.merge(series);
      this.readAnswer();
      // States once more: what changed before `seq` would not come as an event.
      await this.readStates();
      this.render();
      if (!document.hidden) this.stream.open(seq, [...this.store.metrics.keys()]);
      if (isEnded(this.experiment.state)) this.linger();
    } catch (problem) {
      this.failed(problem);
    }
  }

  /** A user's action: what had ended may run again, what is deleted will soon not be there. */
  acted(changed) {
    this.experiment = { ...this.experiment, ...changed };
    this.load();
  }

  /** No event tells when others in the queue move on. */
  watchQueue() {
    if (this.experiment?.state === "queued" && !document.hidden) this.look();
  }

  /** Look at the experiment alone: whether it is still there, and whether we may still see it. */
  async look() {
    if (this.asking) return;
    this.asking = true;
    try {
      const { state, waiting } = await getExperiment(this.id, this.closed.signal);
      // Everything else comes as an event, which may be newer than this answer.
      if (state === this.experiment.state) this.take("experiment", { waiting });
    } catch (problem) {
      if (problem.status === 404) this.failed(problem);
    } finally {
      this.asking = false;
    }
  }

  /** Points were missed while away: read the series once more; the stream goes on meanwhile, and points merge. */
  async reload() {
    try {
      const { series } = await getMetrics(this.id, [...this.store.metrics.keys()], this.resolution(), this.closed.signal);
      this.store.merge(series);
      await this.readStates();
      this.answerLater();
      this.batch.request();
    } catch (problem) {
      this.failed(problem);
    }
  }

  /** The answer is the service's: nothing of it is computed here. */
  async readAnswer() {
    try {
      this.answer.update(await getAnswer(this.id, this.closed.signal));
    } catch (problem) {
      if (problem.status === 404) this.failed(problem); // else the one shown stays until the next
    }
  }

  answerLater() {
    this.answering ??= setTimeout(() => {
      this.answering = null;
      this.readAnswer();
    }, ANSWER_MS);
  }

  async readStates() {
    const { signal } = this.closed;
    const [experiment, trials] = await Promise.all([getExperiment(this.id, signal), getTrials(this.id, signal)]);
    this.experiment = { ...this.experiment, ...experiment };
    for (const trial of trials) this.trials.set(trial.number, trial);
  }

  failed(problem) {
    if (problem.name === "AbortError" || problem.status === 401) return;
    if (problem.status === 404) {
      this.dispose(); // it was deleted: nothing more will come
      this.page.setLive(null);
      this.root.replaceChildren(problemNotice(problem, null, true));
    } else if (!this.header) {
      this.root.replaceChildren(problemNotice(problem, () => this.load(), true));
    } else {
      this.page.setLive("lost", "reconnecting");
      clearTimeout(this.again);
      this.again = setTimeout(() => this.load(), 3000);
    }
  }

  /** Points per series worth asking for: the more trials, the fewer. */
  resolution() {
    const points = Math.floor(POINTS_AT_ONCE / Math.max(this.trials.size, 1));
    const limit = Math.min(1000, Math.max(200, points));
    this.store.limit = (this.group?.zoom ? 4 : 2) * limit; // room for what zooming adds
    return limit;
  }

  build() {
    const { store, selection, tooltip } = this;
    const { metric, mode } = this.experiment;
    const label = (number) => this.labelOf(number);
    const score = (number) => this.trials.get(number)?.latest?.[metric];
    const { role, name } = this.session ?? {};
    this.header = new ExperimentHeader({
      mayChange: ({ owner }) => role === "admin" || (role === "submitter" && owner === name),
      mayClone: () => role === "admin" || role === "submitter",
      onExperiment: (changed) => this.acted(changed),
    });
    // The best come first where it is settled who they are: rows that swap places under the pointer are a nuisance.
    this.table = new TrialTable(selection, metric, mode, isEnded(this.experiment.state));
    this.answer = new AnswerPanel();
    const grid = el("div", { class: "charts" });
    this.root.replaceChildren(
      this.header.node,
      this.answer.node,
      el("section", { "aria-label": "Curves" }, this.curvesHead(), grid),
      this.table.node,
      el("div", { class: "panels" }, specPanel(this.experiment), dataPanel(this.id, this.closed.signal), logsPanel(this.id, this.closed.signal)),
    );
    const card = (className) => grid.appendChild(el("article", { class: `card chart ${className}` }));
    this.group = new ChartGroup({ store, selection, tooltip, label });
    for (const metric of chartMetrics()) this.group.add(metric, card(metric));
    this.chosen = this.group.add(CHOSEN_AT_FIRST, card("chosen"), this.metricSelect());
    this.phase = new PhasePlot({ host: card("phase"), group: this.group, store, selection, tooltip, label, score });
    this.phase.setMetric(metric, mode);
    this.group.onCursor = () => this.paintPhaseFocus();
    this.group.onZoom = (range) => this.zoomed(range);
    for (const name of [...chartMetrics(), CHOSEN_AT_FIRST, metric]) store.of(name);
  }

  curvesHead() {
    this.resetZoom = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.group.setZoom(null) }, "Reset zoom");
    const choices = Object.entries(X_AXES).map(([name, { title }]) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name: "x-axis", value: name, checked: name === "epoch", onchange: () => this.group.setAxis(name) }),
        el("span", {}, title),
      ),
    );
    return el(
      "div",
      { class: "section-head" },
      el("h2", {}, "Curves"),
      el("span", { class: "muted wide-only" }, "drag to zoom, double-click to reset"),
      this.resetZoom,
      el("fieldset", { class: "segments" }, el("legend", { class: "visually-hidden" }, "x axis"), ...choices),
    );
  }

  metricSelect() {
    const select = el("select", { class: "chart-select", "aria-label": "Metric of this chart" });
    select.addEventListener("change", () => this.choose(select.value));
    this.select = select;
    this.offerMetrics();
    select.value = CHOSEN_AT_FIRST;
    return select;
  }

  /** Any metric may be chosen that is known by name or was reported by a trial. */
  offerMetrics() {
    const offered = new Set([...this.select.options].map((option) => option.value));
    const reported = [...this.trials.values()].flatMap((trial) => Object.keys(trial.latest ?? {}));
    for (const name of new Set([...metricNames(), ...reported])) {
      if (!offered.has(name)) this.select.append(el("option", { value: name }, metricInfo(name).title));
    }
  }

  /** A zoomed range is read by itself: of a long series there are more points in it than the whole shows. */
  async zoomed(range) {
    this.resetZoom.hidden = range === null;
    if (range === null) {
      this.store.thin(this.resolution());
      return;
    }
    const { axisName, origin } = this.group;
    const [start, end] = range.map((x) => x + origin);
    const span = { by: axisName, start, end };
    try {
      const { series } = await getMetrics(this.id, this.group.metrics, this.resolution(), this.closed.signal, span);
      this.store.merge(series);
      this.batch.request();
    } catch (problem) {
      if (problem.status === 401 || problem.status === 404) this.failed(problem); // else the coarse curves stay
    }
  }

  async choose(metric) {
    this.chosen.metric = metric;
    this.store.of(metric);
    this.group.refresh();
    try {
      const { seq, series } = await getMetrics(this.id, [metric], this.resolution(), this.closed.signal);
      this.store.merge(series);
      this.group.refresh();
      if (this.group.zoom) this.zoomed(this.group.zoom);
      // From where its points are known: of the others some come twice, which changes nothing.
      if (this.stream.isOpen) this.stream.open(Math.min(seq, this.stream.after), [...this.store.metrics.keys()]);
    } catch (problem) {
      this.failed(problem);
    }
  }

  take(kind, data) {
    if (kind === "reset") {
      this.reload();
      return;
    }
    if (kind === "points") this.store.merge(data.series);
    else if (kind === "trial") this.trials.set(data.number, data);
    else if (kind === "experiment") this.experiment = { ...this.experiment, ...data };
    if (this.changesAnswer(kind, data)) this.answerLater();
    this.batch.request();
  }

  /** Trials that ended, and last values that came after their end. */
  changesAnswer(kind, data) {
    if (kind === "points") return data.series.some(({ trial }) => isTrialEnded(this.trials.get(trial)?.state));
    return kind === "experiment" ? isEnded(data.state) : isTrialEnded(data.state);
  }

  render() {
    const { experiment } = this;
    this.noteLatest();
    this.offerMetrics();
    this.page.setTitle(experiment.name);
    this.header.update(experiment);
    this.showSelection();
    this.group.refresh();
    this.phase.refresh();
    if (isEnded(experiment.state)) this.linger();
    else this.stay();
  }

  /** Trials come with their last values, but less often than points do. */
  noteLatest() {
    for (const [metric, trials] of this.store.metrics) {
      for (const [number, series] of trials) {
        const trial = this.trials.get(number);
        if (trial) trial.latest = { ...trial.latest, [metric]: series.values.at(-1) };
      }
    }
  }

  /** After the end the stream is closed, a little later: browsers allow few connections to one host. */
  linger() {
    if (this.lingering || !this.stream.isOpen) return;
    this.page.setLive(null);
    this.lingering = setTimeout(() => {
      this.lingering = null;
      this.stream.close();
    }, LINGER_MS);
  }

  /** What had ended runs again. */
  stay() {
    clearTimeout(this.lingering);
    this.lingering = null;
  }

  showSelection() {
    const { metric, mode } = this.experiment;
    const trials = [...this.trials.values()];
    const before = [...this.selection.coloured].join();
    this.selection.update(trials, metric, mode);
    this.table.update(trials, this.experiment.spec);
    if (before !== [...this.selection.coloured].join()) {
      this.group.refresh();
      this.phase.plot.paint();
    }
  }

  showFocus() {
    this.table.showFocus();
    this.group.paintFocus();
    this.paintPhaseFocus();
  }

  paintPhaseFocus() {
    if (this.phaseFrame) return;
    this.phaseFrame = requestAnimationFrame(() => {
      this.phaseFrame = null;
      this.phase.paintFocus();
    });
  }

  showLive(status) {
    if (isEnded(this.experiment.state)) this.page.setLive(null);
    else this.page.setLive(status, status === "live" ? "live" : "reconnecting");
  }

  /** A hidden page gives its connection back. */
  lookedAt(visible) {
    if (!visible) this.stream.close();
    else if (this.header) this.load();
  }

  redraw() {
    this.group?.redraw();
    this.phase?.plot.redraw();
  }

  labelOf(number) {
    return this.trials.get(number)?.label ?? "";
  }
}
