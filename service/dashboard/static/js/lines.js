// What charts draw: of each configuration that is shown its mean with a band, or its single trials. Points of trials and
// curves of configurations have the same columns, so that charts need not know which they draw.

import { lowerBound } from "./series.js";

/** A line: its configuration, its trial or null for the mean, its points, its look, whether it stands out. */
export class Lines {
  /** @param data ExperimentData, @param selection, @param colours, @param visible {configurations, trials} that pass the filter */
  constructor(data, selection, colours, visible) {
    Object.assign(this, { data, selection, colours, visible });
    this.single = false; // single trials rather than means
  }

  /** Whether points of this configuration's trials are drawn. */
  showsTrials(number) {
    const { selection } = this;
    return (this.single && selection.isColoured(number)) || selection.opened.has(number);
  }

  /** Trials whose points are needed, and whether curves are. */
  needs() {
    const numbers = [...this.visible.configurations];
    const trials = numbers.filter((number) => this.showsTrials(number)).flatMap((number) => this.data.configurations.get(number)?.trials ?? []);
    const curves = numbers.some((number) => !(this.single && this.selection.isColoured(number)));
    return { trials: new Set(trials), curves };
  }

  /** Lines of a metric, those that stand out last. */
  of(metric) {
    const { data, selection, visible } = this;
    const curves = data.curves.of(metric);
    const series = data.series.of(metric);
    const back = [];
    const front = [];
    for (const number of visible.configurations) {
      const coloured = selection.isColoured(number);
      const list = coloured ? front : back;
      const look = { ...this.colours.of(number), coloured };
      const single = this.single && coloured;
      const mean = curves.get(number);
      if (mean && !single) list.push({ configuration: number, trial: null, points: mean, ...look });
      if (!this.showsTrials(number)) continue;
      for (const trial of data.configurations.get(number)?.trials ?? []) {
        const points = series.get(trial);
        if (points?.length && visible.trials.has(trial)) list.push({ configuration: number, trial, points, thin: !single, ...look });
      }
    }
    return [...back.reverse(), ...front.reverse()];
  }

  /** Whether a line is the one under the pointer, or of its configuration. */
  isFocused(line) {
    const { focused } = this.selection;
    if (focused === null || line.configuration !== focused.configuration) return false;
    return focused.trial === null || line.trial === null || line.trial === focused.trial;
  }

  /** A line in words. */
  label(line) {
    if (line.trial !== null) return this.data.trials.get(line.trial)?.label ?? "";
    return this.data.configurations.get(line.configuration)?.label ?? "";
  }
}

/** Index of the point nearest to x in a column, or -1 where x lies outside by more than `slack`. */
export function nearestPoint(points, column, x, slack) {
  const xs = points[column];
  const end = xs.length - 1;
  if (end < 0 || x < xs[0] - slack || x > xs[end] + slack) return -1;
  const right = Math.min(lowerBound(xs, x), end);
  return right > 0 && x - xs[right - 1] < xs[right] - x ? right - 1 : right;
}
