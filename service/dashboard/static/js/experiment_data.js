// Everything an experiment's page shows: read from the service, then followed live. Owns what is loaded and how fresh it
// is; the answer, the curves of configurations and the importance of fields are the service's, nothing is computed here.

import { getAnswer, getCurves, getExperiment, getMetrics, getTrials } from "./api.js";
import { CurveStore } from "./curves.js";
import { LiveStream } from "./live.js";
import { SeriesStore } from "./series.js";
import { isEnded, isTrialEnded } from "./words.js";

const POINTS_AT_ONCE = 24_000; // of one metric over all lines: what a screen can show
const ANSWER_MS = 3000; // at least, between two answers while trials end
const CURVES_MS = 1500; // at least, between two readings of curves while points come
const FIRST_CURVES_MS = 300; // before it is known how long that takes
const LOOK_MS = 4000; // between two looks at what a waiting experiment waits for
const LINGER_MS = 20_000; // the stream stays open this long after the end, for late points

export class ExperimentData {
  /** @param on {change(what), live(status), failed(problem)}; what: "states", "answer" or "points" */
  constructor(id, on) {
    Object.assign(this, { id, on });
    this.closed = new AbortController();
    this.experiment = null;
    this.trials = new Map(); // number -> Trial
    this.answer = null;
    this.configurations = new Map(); // number -> ConfigurationAnswer
    this.configurationOf = new Map(); // trial number -> configuration number
    this.series = new SeriesStore();
    this.curves = new CurveStore();
    this.needs = { metrics: [], axis: "epoch", zoom: null, trials: new Set(), curves: false };
    this.hasRead = false; // whether what there is of points has been read once
    this.loaded = new Map(); // metric -> trials whose points are here and are kept up to date
    this.stream = new LiveStream(id, (kind, data) => this.take(kind, data), (status) => on.live(status), () => this.look());
    this.lookClock = setInterval(() => this.watchQueue(), LOOK_MS);
  }

  dispose() {
    this.closed.abort();
    clearInterval(this.lookClock);
    for (const timer of [this.lingering, this.again, this.answering, this.curving]) clearTimeout(timer);
    this.stream.close();
  }

  get signal() {
    return this.closed.signal;
  }

  /** Read everything, then follow. Also after the page was hidden: what is there is merged, so nothing flickers. */
  async load() {
    try {
      const answer = getAnswer(this.id, this.signal);
      answer.catch(() => {}); // told below, after the states
      this.starting = true; // what is needed is read below, in one go
      await this.readStates();
      this.takeAnswer(await answer);
      this.starting = false;
      const seq = await this.readPoints(true);
      // States once more: what changed before `seq` would not come as an event.
      await this.readStates();
      if (!document.hidden) this.stream.open(seq, this.needs.metrics);
      if (isEnded(this.experiment.state)) this.linger();
    } catch (problem) {
      this.failed(problem);
    }
  }

  failed(problem) {
    if (problem.name === "AbortError" || problem.status === 401) return;
    if (problem.status === 404) this.dispose(); // it was deleted: nothing more will come
    else if (this.answer) {
      clearTimeout(this.again);
      this.again = setTimeout(() => this.load(), 3000);
    }
    this.on.failed(problem);
  }

  async readStates() {
    const [experiment, trials] = await Promise.all([getExperiment(this.id, this.signal), getTrials(this.id, this.signal)]);
    this.experiment = { ...this.experiment, ...experiment };
    for (const trial of trials) this.trials.set(trial.number, trial);
    this.noteLatest();
    this.on.change("states");
  }

  async readAnswer() {
    try {
      this.takeAnswer(await getAnswer(this.id, this.signal));
    } catch (problem) {
      if (problem.status === 404) this.failed(problem); // else the one shown stays until the next
    }
  }

  takeAnswer(answer) {
    this.answer = answer;
    this.configurations = new Map(answer.configurations.map((c) => [c.number, c]));
    this.configurationOf = new Map(answer.configurations.flatMap((c) => c.trials.map((trial) => [trial, c.number])));
    this.on.change("answer");
  }

  /** Change what is needed; what is missing is read. */
  need(changes) {
    const before = this.needs;
    this.needs = { ...before, ...changes };
    const { metrics, axis, zoom, curves } = this.needs;
    const added = metrics.some((metric) => !before.metrics.includes(metric));
    const elsewhere = before.axis !== axis || String(before.zoom) !== String(zoom);
    if (before.axis !== axis) this.curves.clear();
    if (before.zoom && !zoom) this.series.thin(this.resolution());
    if (!this.answer || this.starting) return;
    const otherCurves = elsewhere || added || (curves && !before.curves);
    if (otherCurves || this.missing().length) this.readMore(otherCurves);
    if (added && this.stream.isOpen) this.stream.open(this.stream.after, metrics);
  }

  async readMore(curves) {
    try {
      await this.readPoints(false, curves);
    } catch (problem) {
      this.failed(problem);
    }
  }

  /** Read points and curves that are needed; gives the event up to which they are complete. */
  async readPoints(all, curves = true) {
    const { metrics, axis, zoom, trials } = this.needs;
    const range = zoom && axis !== "time" ? { by: axis, start: zoom[0], end: zoom[1] } : null;
    this.series.limit = (zoom ? 4 : 2) * this.resolution(); // room for what zooming adds
    const fresh = all ? [...trials] : this.missing();
    for (const metric of metrics) {
      if (!this.loaded.has(metric)) this.loaded.set(metric, new Set());
      this.series.of(metric);
      for (const number of fresh) this.loaded.get(metric).add(number);
    }
    const points = (numbers, within) => getMetrics(this.id, metrics, this.resolution(), this.trialNumbers(numbers), this.signal, within);
    const reads = [];
    if (fresh.length) reads.push(points(fresh, null));
    if (range && trials.size) reads.push(points([...trials], range)); // finer than the whole
    if ((this.needs.curves && curves) || (all && !reads.length)) {
      reads.push(getCurves(this.id, metrics, this.curveResolution(), this.signal, { by: axis, ...(range ?? {}) }));
    }
    const show = (answer) => {
      if (answer.series) this.series.merge(answer.series);
      // Of two axes asked for in turn only the last one counts.
      else if (axis === this.needs.axis && String(zoom) === String(this.needs.zoom)) this.curves.take(answer, axis);
      this.noteLatest();
      this.on.change("points");
      return answer.seq;
    };
    const seqs = await Promise.all(reads.map(async (read) => show(await read)));
    this.hasRead = true;
    this.on.change("points");
    return Math.min(...seqs);
  }

  /** Wanted trials of which points of a wanted metric have not been read. */
  missing() {
    const { metrics, trials } = this.needs;
    return [...trials].filter((number) => metrics.some((metric) => !this.loaded.get(metric)?.has(number)));
  }

  /** As the API takes them, as "0-3,7"; null for all. */
  trialNumbers(numbers) {
    if (numbers.length >= this.trials.size) return null;
    const parts = [];
    for (const number of [...numbers].sort((a, b) => a - b)) {
      const last = parts.at(-1);
      if (last && last[1] === number - 1) last[1] = number;
      else parts.push([number, number]);
    }
    return parts.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",");
  }

  /** Points per series worth asking for: the more lines, the fewer. */
  resolution() {
    const points = Math.floor(POINTS_AT_ONCE / Math.max(this.needs.trials.size, 1));
    return Math.min(1000, Math.max(200, points));
  }

  curveResolution() {
    const points = Math.floor(POINTS_AT_ONCE / Math.max(this.configurations.size, 1));
    return Math.min(400, Math.max(40, points));
  }

  /** A user's action: what had ended may run again, what is deleted will soon not be there. */
  acted(changed) {
    this.experiment = { ...this.experiment, ...changed };
    this.load();
  }

  take(kind, data) {
    if (kind === "reset") {
      this.reload();
      return;
    }
    if (kind === "points") this.takePoints(data.series);
    else if (kind === "trial") this.trials.set(data.number, data);
    else if (kind === "experiment") {
      const { waiting, ...known } = data; // what it waits for is in no event
      this.experiment = { ...this.experiment, ...known };
    }
    if (this.changesAnswer(kind, data)) this.answerLater();
    if (kind === "experiment") this.follow();
    this.on.change(kind === "points" ? "points" : "states");
  }

  takePoints(list) {
    this.series.merge(list.filter(({ metric, trial }) => this.loaded.get(metric)?.has(trial)));
    for (const { trial, metric, values, steps } of list) {
      if (steps.length) this.noteValue(trial, metric, steps.at(-1), values.at(-1));
    }
    if (this.needs.curves) this.curvesLater();
  }

  /** Trials come with their last values, but less often than points do. */
  noteLatest() {
    for (const [metric, trials] of this.series.metrics) {
      for (const [number, series] of trials) {
        if (series.length) this.noteValue(number, metric, series.steps.at(-1), series.values.at(-1));
      }
    }
  }

  /** A trial may be known as it was after points that come only now. */
  noteValue(number, metric, step, value) {
    const trial = this.trials.get(number);
    if (!trial || step < (trial.latest_steps[metric] ?? 0)) return;
    trial.latest = { ...trial.latest, [metric]: value };
    trial.latest_steps = { ...trial.latest_steps, [metric]: step };
  }

  /** An answer has trials that ended, and their last values: those may come after the end. */
  changesAnswer(kind, data) {
    if (kind === "trial") return isTrialEnded(data.state) || !this.configurationOf.has(data.number);
    return kind === "experiment" || isEnded(this.experiment.state);
  }

  answerLater() {
    this.answering ??= setTimeout(() => {
      this.answering = null;
      this.readAnswer();
    }, ANSWER_MS);
  }

  /** Curves are made by the service: it is asked again, less often the longer it takes. */
  curvesLater() {
    this.curving ??= setTimeout(
      async () => {
        const start = performance.now();
        await this.readMore(true);
        this.pace = Math.max(CURVES_MS, 5 * (performance.now() - start));
        this.curving = null;
      },
      this.pace ?? FIRST_CURVES_MS,
    );
  }

  /** Points were missed while away: read the series once more; the stream goes on meanwhile, and points merge. */
  async reload() {
    try {
      await this.readPoints(true);
      await this.readStates();
      this.answerLater();
    } catch (problem) {
      this.failed(problem);
    }
  }

  /** No event tells when others in the queue move on, or give back what this one waits for. */
  watchQueue() {
    if (this.experiment && !isEnded(this.experiment.state) && !document.hidden) this.look();
  }

  /** Look at the experiment alone: whether it is still there, and whether we may still see it. */
  async look() {
    if (this.asking) return;
    this.asking = true;
    try {
      const { state, waiting } = await getExperiment(this.id, this.signal);
      // Everything else comes as an event, which may be newer than this answer.
      if (state === this.experiment.state) {
        this.experiment = { ...this.experiment, waiting };
        this.on.change("states");
      }
    } catch (problem) {
      if (problem.status === 404) this.failed(problem);
    } finally {
      this.asking = false;
    }
  }

  follow() {
    if (isEnded(this.experiment.state)) this.linger();
    else {
      clearTimeout(this.lingering); // what had ended runs again
      this.lingering = null;
    }
  }

  /** After the end the stream is closed, a little later: browsers allow few connections to one host. */
  linger() {
    if (this.lingering || !this.stream.isOpen) return;
    this.lingering = setTimeout(() => {
      this.lingering = null;
      this.stream.close();
    }, LINGER_MS);
  }

  /** A hidden page gives its connection back. */
  lookedAt(visible) {
    if (!visible) this.stream.close();
    else if (this.answer) this.load();
  }

  /** What a configuration has of a metric: its mean over replicates, else of its curve, else its only trial's value. */
  valueOf(configuration, metric) {
    const mean = configuration.statistics[metric]?.mean;
    if (mean !== undefined) return mean;
    if (configuration.trials.length === 1) return this.trials.get(configuration.trials[0])?.latest?.[metric];
    return this.curves.of(metric).get(configuration.number)?.values.at(-1);
  }
}
