// The points of one experiment in memory: one series per (metric, trial), sorted by step, each step once.
// Points may arrive twice or out of order; merging is by step. Values may be NaN or infinite.

import { parseFloatJson } from "./format.js";

const COLUMNS = ["steps", "epochs", "times", "values"];

export class Series {
  constructor() {
    this.version = 0; // changes with every change of the points
    for (const column of COLUMNS) this[column] = [];
  }

  get length() {
    return this.steps.length;
  }

  /** Merge points given as parallel columns; of a step that is already there what was measured last stands. */
  merge(points) {
    for (let i = 0; i < points.steps.length; i += 1) {
      this.put(
        points.steps[i],
        parseFloatJson(points.epochs?.[i] ?? points.steps[i]),
        parseFloatJson(points.times?.[i]),
        parseFloatJson(points.values[i]),
      );
    }
    this.version += 1;
  }

  put(step, epoch, time, value) {
    const end = this.steps.length;
    const at = end === 0 || step > this.steps[end - 1] ? end : lowerBound(this.steps, step);
    const insert = at === end || this.steps[at] !== step;
    if (!insert && this.times[at] > time) return;
    this.steps.splice(at, insert ? 0 : 1, step);
    this.epochs.splice(at, insert ? 0 : 1, epoch);
    this.times.splice(at, insert ? 0 : 1, time);
    this.values.splice(at, insert ? 0 : 1, value);
  }

  /** Thin the points to about `limit`: of each range of steps the lowest, the highest, the last and a non-finite one stay. */
  thin(limit) {
    const [first] = this.steps;
    const width = (this.steps.at(-1) - first) / Math.max(1, Math.floor(limit / 3));
    const kept = [];
    for (let start = 0, end = 0; start < this.length; start = end) {
      const bound = first + (Math.floor((this.steps[start] - first) / width) + 1) * width;
      end = Math.max(start + 1, lowerBound(this.steps, bound));
      let low = -1;
      let high = -1;
      let gap = -1;
      for (let i = start; i < end; i += 1) {
        const value = this.values[i];
        if (!Number.isFinite(value)) gap = gap < 0 ? i : gap;
        else {
          if (low < 0 || value < this.values[low]) low = i;
          if (high < 0 || value > this.values[high]) high = i;
        }
      }
      const chosen = new Set([start === 0 ? 0 : -1, low, high, gap, end - 1]);
      chosen.delete(-1);
      kept.push(...[...chosen].sort((a, b) => a - b));
    }
    for (const column of COLUMNS) {
      const all = this[column];
      this[column] = kept.map((i) => all[i]);
    }
    this.version += 1;
  }
}

export class SeriesStore {
  constructor() {
    this.metrics = new Map(); // metric -> Map(trial number -> Series)
    this.limit = 2000; // points a series may grow to before it is thinned to half
  }

  /** The series of a metric by trial number; asking for a metric makes live points of it be kept from then on. */
  of(metric) {
    if (!this.metrics.has(metric)) this.metrics.set(metric, new Map());
    return this.metrics.get(metric);
  }

  /** Merge what the API sent. Metrics nobody asked for are left out. */
  merge(list) {
    for (const points of list) {
      const trials = this.metrics.get(points.metric);
      if (!trials || !points.steps.length) continue;
      if (!trials.has(points.trial)) trials.set(points.trial, new Series());
      const series = trials.get(points.trial);
      series.merge(points);
      if (series.length > this.limit) series.thin(this.limit / 2);
    }
  }

  /** Bring series that have more than so many points back to about so many. */
  thin(points) {
    for (const trials of this.metrics.values()) {
      for (const series of trials.values()) if (series.length > points) series.thin(points);
    }
  }
}

/** First index whose element is not below x. */
export function lowerBound(sorted, x) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}
