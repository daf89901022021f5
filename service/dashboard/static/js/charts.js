// The curves over training: a group of charts, one metric each, with one x axis, one zoom and one cursor for all.

import { el, setAttribute, setText } from "./dom.js";
import { duration, metricValue, tick } from "./format.js";
import { metricInfo } from "./words.js";
import { Plot, fillDot, padded, strokeCross, strokeLine } from "./plot.js";
import { trialColour, trialDash } from "./selection.js";
import { theme } from "./theme.js";

const NEAR_PX = 28;

/** The x axes on offer: the column of a series each reads, and how a position is told. */
export const X_AXES = {
  epoch: { column: "epochs", title: "epoch", unit: "number", tell: (x) => `epoch ${tick(Math.round(x * 100) / 100)}` },
  step: { column: "steps", title: "step", unit: "number", tell: (x) => `step ${Math.round(x)}` },
  time: { column: "times", title: "time", unit: "seconds", tell: (x) => `after ${duration(x)}` },
};

export class ChartGroup {
  /** @param store the points, @param selection which trials stand out, @param tooltip shared, @param label(number) a trial in words */
  constructor({ store, selection, tooltip, label }) {
    Object.assign(this, { store, selection, tooltip, label });
    this.charts = [];
    this.axisName = "epoch";
    this.zoom = null; // [min, max] in units of the axis, or null for everything
    this.range = [0, 1];
    this.cursor = null; // x under the pointer, in units of the axis
    this.origin = 0; // subtracted from x: the start of the experiment for times
    this.onCursor = () => {};
    this.onZoom = () => {};
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

  /** Take in changed points: new ranges, everything painted. */
  refresh() {
    let low = Infinity;
    let high = -Infinity;
    const { column } = this.axis;
    for (const { metric } of this.charts) {
      for (const series of this.store.of(metric).values()) {
        low = Math.min(low, series[column][0]);
        high = Math.max(high, series[column][series.length - 1]);
      }
    }
    if (!(high >= low)) [low, high] = [0, 1];
    this.origin = column === "times" ? low : 0;
    low -= this.origin;
    high -= this.origin;
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

  /** Index of a series' point under the cursor, or -1. */
  indexAtCursor(series) {
    if (this.cursor === null) return -1;
    const slack = (this.range[1] - this.range[0]) * 0.01;
    return series.nearest(this.axis.column, this.cursor + this.origin, slack);
  }
}

class Chart {
  constructor(group, metric, host, title) {
    this.group = group;
    this.metric = metric;
    this.note = el("span", { class: "chart-note" });
    this.readout = el("output", { class: "chart-readout" });
    this.empty = el("p", { class: "chart-empty" }, "no points yet");
    const box = el("div", { class: "chart-plot", role: "img" }, this.empty);
    this.box = box;
    host.append(el("header", { class: "chart-head" }, title ?? el("h3", {}, metricInfo(metric).title), this.note, this.readout), box);
    this.plot = new Plot(box, {
      paintData: (context) => this.paintData(context),
      paintFocus: (context) => this.paintFocusLayer(context),
      onPoint: (point) => this.point(point),
      onLeave: () => this.leave(),
      onSelect: (min, max) => group.setZoom([min, max]),
      onReset: () => group.setZoom(null),
      xUnit: () => group.axis.unit,
    });
  }

  get series() {
    return this.group.store.of(this.metric);
  }

  refresh() {
    const [from, to] = this.group.range;
    const { column } = this.group.axis;
    const { origin } = this.group;
    const extents = [];
    for (const [number, series] of this.series) {
      const extent = { low: Infinity, high: -Infinity, picked: this.group.selection.picked.has(number) };
      for (let i = 0; i < series.length; i += 1) {
        const x = series[column][i] - origin;
        const value = series.values[i];
        if (x < from || x > to || !Number.isFinite(value)) continue;
        if (value < extent.low) extent.low = value;
        if (value > extent.high) extent.high = value;
      }
      if (extent.low <= extent.high) extents.push(extent);
    }
    const { low, high } = typicalRange(extents);
    const info = metricInfo(this.metric);
    const [min, max] = info.limits ? [Math.min(low, info.limits[0]), Math.max(high, info.limits[1])] : [low, high];
    const beyond = extents.filter((extent) => extent.low < min || extent.high > max).length;
    setText(this.note, beyond ? `${info.unit}${info.unit ? " · " : ""}${beyond} beyond the frame` : info.unit);
    setAttribute(this.note, "title", info.description || null);
    this.empty.hidden = this.series.size > 0;
    setAttribute(this.box, "aria-label", this.inWords());
    this.plot.show([from, to], padded(min, max, info.limits ? 0.03 : 0.06));
  }

  /** For those who do not see the curves. */
  inWords() {
    const points = [...this.series.values()].reduce((sum, { length }) => sum + length, 0);
    const what = points ? `${counted(this.series.size, "curve")} of ${counted(points, "point")}` : "no points yet";
    return `${metricInfo(this.metric).title}: ${what}`;
  }

  pen(series) {
    const { plot, group } = this;
    const xs = series[group.axis.column];
    const scaleX = plot.width / (plot.x[1] - plot.x[0]);
    const scaleY = plot.height / (plot.y[1] - plot.y[0]);
    const offset = group.origin + plot.x[0];
    return [(i) => (xs[i] - offset) * scaleX, (i) => (plot.y[1] - series.values[i]) * scaleY];
  }

  paintData(context) {
    const { selection } = this.group;
    const faint = crowdAlpha(this.series.size - selection.coloured.size);
    context.lineJoin = "round";
    for (const number of selection.drawingOrder(this.series.keys())) {
      const coloured = selection.isColoured(number);
      const series = this.series.get(number);
      context.strokeStyle = coloured ? theme.trials[trialColour(number)] : theme.dim;
      context.lineWidth = coloured ? 1.4 : 1;
      context.globalAlpha = coloured ? 1 : faint;
      context.setLineDash(coloured ? trialDash(number) : []);
      const [left, top] = this.pen(series);
      if (coloured) {
        strokeLine(context, series.length, left, top);
        markLosses(context, series, left, top);
      } else {
        // The crowd behind: no more points than pixels.
        const stride = Math.max(1, Math.floor(series.length / this.plot.width));
        strokeLine(context, Math.ceil(series.length / stride), (i) => left(i * stride), (i) => top(i * stride));
      }
    }
    context.globalAlpha = 1;
  }

  paintFocus() {
    this.plot.subdue(this.group.selection.focused !== null);
    this.plot.paintFocus();
    this.showReadout();
  }

  paintFocusLayer(context) {
    const { group, plot } = this;
    const { selection } = group;
    const { focused } = selection;
    const series = this.series.get(focused);
    if (series) {
      const pen = this.pen(series);
      context.lineJoin = "round";
      context.strokeStyle = theme.surface;
      context.lineWidth = 6;
      strokeLine(context, series.length, ...pen);
      context.strokeStyle = theme.trials[trialColour(focused)];
      context.lineWidth = 2.5;
      context.setLineDash(trialDash(focused));
      strokeLine(context, series.length, ...pen);
      markLosses(context, series, ...pen);
    }
    if (group.cursor === null) return;
    const x = plot.left(group.cursor);
    context.setLineDash([]);
    context.lineWidth = 1;
    context.strokeStyle = theme.muted;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, plot.height);
    context.stroke();
    for (const [number, other] of this.series) {
      if (number !== focused && (focused !== null || !selection.isColoured(number))) continue;
      const at = group.indexAtCursor(other);
      if (at < 0 || !Number.isFinite(other.values[at])) continue;
      const [left, top] = this.pen(other);
      fillDot(context, left(at), top(at), 4, theme.surface);
      fillDot(context, left(at), top(at), 3, theme.trials[trialColour(number)]);
    }
  }

  /** The focused trial's value under the cursor, or its last one. */
  showReadout() {
    const { group } = this;
    const number = group.selection.focused;
    const series = this.series.get(number);
    if (!series) {
      setText(this.readout, "");
      return;
    }
    const at = group.cursor === null ? series.length - 1 : group.indexAtCursor(series);
    setText(this.readout, at < 0 ? "" : metricValue(series.values[at], this.metric));
    this.readout.style.color = theme.trials[trialColour(number)];
  }

  point({ x, top, event }) {
    const { group } = this;
    group.setCursor(x);
    const here = [];
    let nearest = null;
    for (const [number, series] of this.series) {
      const at = group.indexAtCursor(series);
      if (at < 0) continue;
      const value = series.values[at];
      here.push({ number, value });
      const distance = Math.abs(this.plot.top(value) - top);
      if (distance < (nearest?.distance ?? NEAR_PX)) nearest = { number, distance };
    }
    group.selection.focus(nearest?.number ?? null);
    if (event.buttons) group.tooltip.hide();
    else group.tooltip.show(event, group.axis.tell(x), this.tooltipRows(here));
  }

  /** The trials in colour and the focused one, highest value first. */
  tooltipRows(here) {
    const { selection, label } = this.group;
    const height = (value) => (Number.isFinite(value) ? value : -Infinity);
    return here
      .filter(({ number }) => selection.isColoured(number) || number === selection.focused)
      .sort((a, b) => height(b.value) - height(a.value))
      .map(({ number, value }) => ({
        number,
        label: label(number),
        value: metricValue(value, this.metric),
        focused: number === selection.focused,
      }));
  }

  leave() {
    this.group.tooltip.hide();
    this.group.selection.focus(null);
    this.group.setCursor(null);
  }
}

const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Opacity of the curves that stand back: the more there are, the fainter each. */
export const crowdAlpha = (count) => Math.min(1, Math.max(0.35, 24 / Math.max(count, 1)));

/** A cross on the last finite point before values stop being numbers. */
function markLosses(context, series, left, top) {
  for (let i = 1; i < series.length; i += 1) {
    if (Number.isFinite(series.values[i - 1]) && !Number.isFinite(series.values[i])) {
      strokeCross(context, left(i - 1), top(i - 1));
    }
  }
}

/**
 * The range that most curves need. One that leaves the others far behind (a diverged trial) does not flatten them: the
 * frame reaches four heights of the middle 80 % of curves beyond them. Picked trials are always inside.
 */
export function typicalRange(extents) {
  if (!extents.length) return { low: Infinity, high: -Infinity };
  const lows = extents.map(({ low }) => low).sort((a, b) => a - b);
  const highs = extents.map(({ high }) => high).sort((a, b) => a - b);
  const [low, high] = [lows[0], highs.at(-1)];
  const tenth = 0.1 * (extents.length - 1);
  const core = [lows[Math.ceil(tenth)], highs[Math.floor(9 * tenth)]];
  const reach = 4 * (core[1] - core[0]);
  if (extents.length < 3 || !(reach > 0)) return { low, high };
  const [floor, ceiling] = [core[0] - reach, core[1] + reach];
  const isInside = (extent) => extent.picked || (extent.low >= floor && extent.high <= ceiling);
  const inside = extents.filter(isInside);
  return {
    low: Math.min(core[0], ...inside.map((extent) => extent.low)),
    high: Math.max(core[1], ...inside.map((extent) => extent.high)),
  };
}
