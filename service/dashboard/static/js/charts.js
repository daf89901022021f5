// The curves over training: a group of charts, one metric each, with one x axis, one zoom and one cursor for all.

import { Chart } from "./chart.js";
import { duration, tick } from "./format.js";
import { nearestPoint } from "./lines.js";

/** The x axes on offer: the column of a line each reads, and how a position is told. Times are since a line's start. */
export const X_AXES = {
  epoch: { column: "epochs", title: "epoch", unit: "number", tell: (x) => `epoch ${tick(Math.round(x * 100) / 100)}` },
  step: { column: "steps", title: "step", unit: "number", tell: (x) => `step ${Math.round(x)}` },
  time: { column: "times", title: "time", unit: "seconds", tell: (x) => `after ${duration(x)}` },
};

export class ChartGroup {
  /** @param lines what is drawn, @param tooltip shared, @param facts() -> {empty, fileName, notComparable(metric)} */
  constructor({ lines, tooltip, facts }) {
    Object.assign(this, { lines, tooltip, facts });
    this.charts = [];
    this.axisName = "epoch";
    this.zoom = null; // [min, max] in units of the axis, or null for everything
    this.range = [0, 1];
    this.cursor = null; // x under the pointer, in units of the axis
    this.onCursor = () => {};
    this.onZoom = () => {};
    this.onLog = () => {};
  }

  get selection() {
    return this.lines.selection;
  }

  add(metric, host, title) {
    const chart = new Chart(this, metric, host, title);
    this.charts.push(chart);
    return chart;
  }

  get axis() {
    return X_AXES[this.axisName];
  }

  get metrics() {
    return this.charts.map(({ metric }) => metric);
  }

  dispose() {
    for (const chart of this.charts) chart.plot.dispose();
  }

  setAxis(name) {
    this.axisName = name;
    this.cursor = null;
    this.setZoom(null);
  }

  setZoom(range) {
    this.zoom = range;
    this.onZoom(range);
    this.refresh();
  }

  /** x of a line's points on the axis: those of trials come as times of day. */
  origin(points) {
    return this.axis.column === "times" && points.low === undefined ? points.times[0] : 0;
  }

  /** Take in changed points: new ranges, everything painted. */
  refresh() {
    let low = Infinity;
    let high = -Infinity;
    const { column } = this.axis;
    for (const chart of this.charts) {
      chart.gather();
      for (const { points } of chart.drawn) {
        const origin = this.origin(points);
        low = Math.min(low, points[column][0] - origin);
        high = Math.max(high, points[column][points.length - 1] - origin);
      }
    }
    if (!(high >= low)) [low, high] = [0, 1];
    if (low <= (high - low) * 0.2) low = 0;
    // With some air, so that a point on the edge is not cut in half.
    this.range = this.zoom ?? (high > low ? [low, high + (high - low) * 0.01] : [low - 0.03, low + 1]);
    for (const chart of this.charts) chart.refresh();
  }

  redraw() {
    for (const chart of this.charts) chart.plot.redraw();
  }

  setCursor(x) {
    this.cursor = x;
    this.paintFocus();
    this.onCursor();
  }

  /** Repaint what follows the pointer, once per frame. */
  paintFocus() {
    if (this.focusFrame) return;
    this.focusFrame = requestAnimationFrame(() => {
      this.focusFrame = null;
      for (const chart of this.charts) chart.paintFocus();
    });
  }

  /** Index of a line's point under the cursor, or -1. */
  indexAtCursor(points) {
    if (this.cursor === null) return -1;
    const slack = (this.range[1] - this.range[0]) * 0.01;
    return nearestPoint(points, this.axis.column, this.cursor + this.origin(points), slack);
  }
}
