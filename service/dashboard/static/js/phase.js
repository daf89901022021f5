// The phase plot: the path of each trial through the plane of H(R) and I(R;Z). A dot ends each path, larger where the
// sweep's metric is better.

import { crowdAlpha } from "./charts.js";
import { el } from "./dom.js";
import { metricValue, parseFloatJson } from "./format.js";
import { metricInfo } from "./words.js";
import { Plot, fillDot, padded, strokeLine } from "./plot.js";
import { trialColour, trialDash } from "./selection.js";
import { lowerBound } from "./series.js";
import { theme } from "./theme.js";

const NEAR_PX = 24;
const LABELLED = 13; // with more paths in colour, numbers beside their ends would overlap

export class PhasePlot {
  /** @param group the chart group whose cursor is followed, @param score(number) -> a trial's value of the sweep's metric */
  constructor({ host, group, store, selection, tooltip, label, score }) {
    Object.assign(this, { group, store, selection, tooltip, label, score });
    this.paths = new Map(); // trial -> {version, h, i}
    this.note = el("span", { class: "chart-note" });
    this.empty = el("p", { class: "chart-empty" }, "no points yet");
    const axes = [el("span", { class: "axis-name x" }, "H(R) →"), el("span", { class: "axis-name y" }, "↑ I(R;Z)")];
    const box = el("div", { class: "chart-plot" }, this.empty, ...axes);
    host.append(el("header", { class: "chart-head" }, el("h3", {}, "I(R;Z) against H(R)"), this.note), box);
    this.plot = new Plot(box, {
      paintData: (context) => this.paintData(context),
      paintFocus: (context) => this.paintFocusLayer(context),
      onPoint: (point) => this.point(point),
      onLeave: () => this.leave(),
    });
  }

  dispose() {
    this.plot.dispose();
  }

  setMetric(metric, mode) {
    this.mode = mode;
    this.metric = metric;
    this.note.textContent = `larger dot: better ${metricInfo(metric).title}`;
  }

  refresh() {
    this.join();
    const range = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { h, i } of this.paths.values()) {
      for (let k = 0; k < h.length; k += 1) {
        if (!Number.isFinite(h[k]) || !Number.isFinite(i[k])) continue;
        range[0] = Math.min(range[0], h[k]);
        range[1] = Math.max(range[1], h[k]);
        range[2] = Math.min(range[2], i[k]);
        range[3] = Math.max(range[3], i[k]);
      }
    }
    this.empty.hidden = this.paths.size > 0;
    this.plot.show(padded(range[0], range[1]), padded(range[2], range[3]));
  }

  /** Pair the two series of every trial: I(R;Z) read off at the steps of H(R), on the line between its own points. */
  join() {
    const information = this.store.of("i_rz");
    for (const [number, entropy] of this.store.of("h_r")) {
      const other = information.get(number);
      if (!other) continue;
      const version = `${entropy.version}/${other.version}`;
      if (this.paths.get(number)?.version === version) continue;
      const i = entropy.steps.map((step) => valueAt(other, step));
      this.paths.set(number, { version, h: entropy.values, i, last: lastFinite(entropy.values, i) });
    }
  }

  pen({ h, i }) {
    return [(k) => this.plot.left(h[k]), (k) => this.plot.top(i[k])];
  }

  paintData(context) {
    const { selection } = this;
    const order = selection.drawingOrder(this.paths.keys());
    const faint = 0.7 * crowdAlpha(this.paths.size - selection.coloured.size);
    context.lineJoin = "round";
    for (const number of order) {
      const path = this.paths.get(number);
      const coloured = selection.isColoured(number);
      context.strokeStyle = coloured ? theme.trials[trialColour(number)] : theme.dim;
      context.lineWidth = coloured ? 1.2 : 0.8;
      context.globalAlpha = coloured ? 0.75 : faint;
      context.setLineDash(coloured ? trialDash(number) : []);
      strokeLine(context, path.h.length, ...this.pen(path));
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
    const radius = this.radii();
    for (const number of order) {
      const coloured = selection.isColoured(number);
      context.globalAlpha = coloured ? 1 : 0.45;
      this.markEnd(context, number, radius(number), coloured ? theme.trials[trialColour(number)] : theme.muted);
    }
    context.globalAlpha = 1;
    if (selection.coloured.size <= LABELLED) this.numberEnds(context, order.filter((number) => selection.isColoured(number)));
  }

  /** Number the coloured ends to the right of each; one that would cover another is left out. */
  numberEnds(context, numbers) {
    const taken = [];
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = theme.surface;
    for (const number of numbers.reverse()) {
      const at = this.end(number);
      if (!at) continue;
      const text = String(number);
      const width = context.measureText(text).width;
      const gap = 9;
      const x = at.x + gap + width > this.plot.width ? at.x - gap - width : at.x + gap;
      if (taken.some((other) => Math.abs(other.x - x) < 14 && Math.abs(other.y - at.y) < 11)) continue;
      taken.push({ x, y: at.y });
      context.strokeText(text, x, at.y);
      context.fillStyle = theme.trials[trialColour(number)];
      context.fillText(text, x, at.y);
    }
  }

  /** Radius of a trial's last dot: 2 to 6 px by its rank in the sweep's metric, so that stragglers do not level the rest. */
  radii() {
    const sign = this.mode === "min" ? -1 : 1;
    const scores = new Map([...this.paths.keys()].map((number) => [number, sign * parseFloatJson(this.score(number))]));
    const ranked = [...scores.values()].filter(Number.isFinite).sort((a, b) => a - b);
    return (number) => {
      const score = scores.get(number);
      if (!Number.isFinite(score) || ranked.length < 2) return 3;
      return 2 + (4 * lowerBound(ranked, score)) / (ranked.length - 1);
    };
  }

  end(number) {
    const path = this.paths.get(number);
    if (!path || path.last < 0) return null;
    return { x: this.plot.left(path.h[path.last]), y: this.plot.top(path.i[path.last]) };
  }

  markEnd(context, number, radius, colour) {
    const at = this.end(number);
    if (!at) return;
    fillDot(context, at.x, at.y, radius + 1, theme.surface);
    fillDot(context, at.x, at.y, radius, colour);
  }

  paintFocus() {
    this.plot.subdue(this.selection.focused !== null);
    this.plot.paintFocus();
  }

  paintFocusLayer(context) {
    const { focused } = this.selection;
    const path = this.paths.get(focused);
    if (path) {
      const pen = this.pen(path);
      context.lineJoin = "round";
      context.strokeStyle = theme.surface;
      context.lineWidth = 6;
      strokeLine(context, path.h.length, ...pen);
      context.strokeStyle = theme.trials[trialColour(focused)];
      context.lineWidth = 2.5;
      context.setLineDash(trialDash(focused));
      strokeLine(context, path.h.length, ...pen);
      this.markEnd(context, focused, 5, theme.trials[trialColour(focused)]);
    }
    this.paintCursor(context);
  }

  /** Where the trials were at the x under the cursor of the charts. */
  paintCursor(context) {
    const { focused } = this.selection;
    for (const [number, path] of this.paths) {
      if (number !== focused && (focused !== null || !this.selection.isColoured(number))) continue;
      const at = this.group.indexAtCursor(this.store.of("h_r").get(number));
      if (at < 0 || !Number.isFinite(path.h[at]) || !Number.isFinite(path.i[at])) continue;
      const [left, top] = this.pen(path);
      fillDot(context, left(at), top(at), 5, theme.surface);
      fillDot(context, left(at), top(at), 3.5, theme.trials[trialColour(number)]);
    }
  }

  point({ left, top, event }) {
    const near = this.nearest(left, top);
    this.selection.focus(near?.number ?? null);
    if (!near) {
      this.tooltip.hide();
      return;
    }
    const { number, at } = near;
    const path = this.paths.get(number);
    const epoch = this.store.of("h_r").get(number).epochs[at];
    const row = (label, value) => ({ number: null, label, value });
    this.tooltip.show(event, `#${number} ${this.label(number)}`, [
      row("epoch", metricValue(epoch, "epoch")),
      row(metricInfo("h_r").title, metricValue(path.h[at], "h_r")),
      row(metricInfo("i_rz").title, metricValue(path.i[at], "i_rz")),
      row(`${metricInfo(this.metric).title}, latest`, metricValue(this.score(number), this.metric)),
    ]);
  }

  nearest(left, top) {
    let best = null;
    for (const [number, path] of this.paths) {
      const bonus = this.selection.isColoured(number) ? 0 : 6;
      for (let k = 0; k < path.h.length; k += 1) {
        const distance = Math.hypot(this.plot.left(path.h[k]) - left, this.plot.top(path.i[k]) - top) + bonus;
        if (distance < (best?.distance ?? NEAR_PX)) best = { number, at: k, distance };
      }
    }
    return best;
  }

  leave() {
    this.tooltip.hide();
    this.selection.focus(null);
  }
}

/** A series' value at a step, on the line between its neighbours; NaN outside or beside a gap. */
function valueAt(series, step) {
  const right = lowerBound(series.steps, step);
  if (right === series.length) return NaN;
  if (series.steps[right] === step) return series.values[right];
  if (right === 0) return NaN;
  const [from, to] = [series.steps[right - 1], series.steps[right]];
  const share = (step - from) / (to - from);
  return series.values[right - 1] * (1 - share) + series.values[right] * share;
}

function lastFinite(a, b) {
  for (let k = a.length - 1; k >= 0; k -= 1) {
    if (Number.isFinite(a[k]) && Number.isFinite(b[k])) return k;
  }
  return -1;
}
