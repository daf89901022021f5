// One chart of a metric over training: means with bands or single trials, dim where they stand back.

import { saveMenu } from "./chart_files.js";
import { el, setAttribute, setText } from "./dom.js";
import { metricValue } from "./format.js";
import { Plot, fillBand, fillDot, padded, strokeCross, strokeLine } from "./plot.js";
import { robustRange } from "./ranges.js";
import { theme } from "./theme.js";
import { metricInfo } from "./words.js";

const NEAR_PX = 28;
const MOST_TOLD = 12; // values in a tooltip

export class Chart {
  constructor(group, metric, host, title) {
    Object.assign(this, { group, metric });
    this.isLog = false;
    this.drawn = []; // lines, those that stand out last
    this.note = el("span", { class: "chart-note" });
    this.readout = el("output", { class: "chart-readout" });
    this.log = el("button", { type: "button", class: "chart-log", "aria-pressed": "false", title: "Logarithmic axis" }, "log");
    this.log.addEventListener("click", () => this.setLog(!this.isLog));
    this.empty = el("p", { class: "chart-empty" }, "no points yet");
    this.box = el("div", { class: "chart-plot", role: "img" }, this.empty);
    const tools = el("span", { class: "chart-tools" }, this.log, saveMenu(this.file()));
    host.append(el("header", { class: "chart-head" }, title ?? el("h3", {}, metricInfo(metric).title), this.note, this.readout, tools), this.box);
    this.plot = new Plot(this.box, {
      paintData: (context) => this.paintData(context),
      paintFocus: (context) => this.paintFocusLayer(context),
      onPoint: (point) => this.point(point),
      onLeave: () => this.leave(),
      onSelect: (range) => group.setZoom(range),
      onReset: () => group.setZoom(null),
      xUnit: () => group.axis.unit,
    });
  }

  setLog(on) {
    this.isLog = on;
    setAttribute(this.log, "aria-pressed", String(on));
    this.refresh();
    this.group.onLog();
  }

  gather() {
    this.drawn = this.group.lines.of(this.metric);
  }

  refresh() {
    const { group, drawn } = this;
    const [from, to] = group.range;
    const extents = drawn.map((line) => this.extent(line, from, to)).filter(({ low, high }) => low <= high);
    const { low, high } = withBands(robustRange(extents), extents);
    const info = metricInfo(this.metric);
    const limits = this.isLog ? null : info.limits;
    const [min, max] = limits ? [Math.min(low, limits[0]), Math.max(high, limits[1])] : [low, high];
    const beyond = extents.filter((extent) => extent.low < min || extent.high > max).length;
    const notComparable = group.facts().notComparable(this.metric);
    const notes = [info.unit, notComparable ? "not comparable" : "", beyond ? `${beyond} beyond the frame` : ""];
    setText(this.note, notes.filter(Boolean).join(" · "));
    setAttribute(this.note, "title", [info.description, notComparable && `Not comparable here: ${notComparable}.`].filter(Boolean).join("\n") || null);
    this.empty.hidden = drawn.length > 0;
    setText(this.empty, group.facts().empty);
    setAttribute(this.box, "aria-label", this.inWords(notComparable));
    this.plot.show([from, to], this.isLog ? logRange(min, max) : padded(min, max, limits ? 0.03 : 0.06), this.isLog);
  }

  /** The lowest and highest value of a line within the range, and of its band if it stands out. */
  extent({ points, coloured, configuration }, from, to) {
    const { column } = this.group.axis;
    const origin = this.group.origin(points);
    const extent = { low: Infinity, high: -Infinity, band: [Infinity, -Infinity], picked: this.group.selection.picked.has(configuration) };
    const xs = points[column];
    for (let i = 0; i < points.length; i += 1) {
      const x = xs[i] - origin;
      const value = points.values[i];
      if (x < from || x > to || !Number.isFinite(value) || (this.isLog && value <= 0)) continue;
      if (value < extent.low) extent.low = value;
      if (value > extent.high) extent.high = value;
      if (!coloured || !points.low || this.isLog || !Number.isFinite(points.low[i])) continue;
      extent.band[0] = Math.min(extent.band[0], points.low[i]);
      extent.band[1] = Math.max(extent.band[1], points.high[i]);
    }
    return extent;
  }

  /** For those who do not see the curves. */
  inWords(notComparable) {
    const points = this.drawn.reduce((sum, line) => sum + line.points.length, 0);
    const what = points ? `${counted(this.drawn.length, "curve")} of ${counted(points, "point")}` : this.group.facts().empty;
    return `${metricInfo(this.metric).title}: ${what}${notComparable ? ", not comparable" : ""}`;
  }

  pen(points) {
    const { plot, group } = this;
    const xs = points[group.axis.column];
    const scaleX = plot.width / (plot.x[1] - plot.x[0]);
    const offset = group.origin(points) + plot.x[0];
    const top = plot.isLog ? (value) => (value > 0 ? plot.top(value) : NaN) : (value) => plot.top(value);
    return [(i) => (xs[i] - offset) * scaleX, (i) => top(points.values[i]), (values) => (i) => top(values[i])];
  }

  paintData(context) {
    const crowd = this.drawn.filter(({ coloured }) => !coloured).length;
    const front = this.drawn.length - crowd;
    context.lineJoin = "round";
    for (const line of this.drawn) {
      const { points, coloured, colour } = line;
      const [left, top, at] = this.pen(points);
      if (coloured && points.low) {
        context.globalAlpha = Math.min(0.16, 1 / front + 0.03);
        context.fillStyle = colour;
        fillBand(context, points.length, left, at(points.low), at(points.high));
      }
      context.strokeStyle = coloured ? colour : theme.dim;
      context.lineWidth = line.thin ? 0.8 : coloured ? 1.4 : 1;
      context.globalAlpha = coloured ? (line.thin ? 0.6 : frontAlpha(front)) : crowdAlpha(crowd);
      context.setLineDash(coloured && !line.thin ? line.dash : []);
      // The crowd behind: no more points than pixels.
      const stride = coloured ? 1 : Math.max(1, Math.floor(points.length / this.plot.width));
      strokeLine(context, Math.ceil(points.length / stride), (i) => left(i * stride), (i) => top(i * stride));
      if (coloured) markLosses(context, points, left, top);
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  paintFocus() {
    this.plot.subdue(this.group.selection.focused !== null);
    this.plot.paintFocus();
    this.showReadout();
  }

  paintFocusLayer(context) {
    const { group, plot } = this;
    const { lines, selection } = group;
    for (const line of this.drawn.filter((one) => lines.isFocused(one))) {
      const [left, top] = this.pen(line.points);
      context.lineJoin = "round";
      context.strokeStyle = theme.surface;
      context.lineWidth = line.thin ? 3 : 6;
      strokeLine(context, line.points.length, left, top);
      context.strokeStyle = line.colour;
      context.lineWidth = line.thin ? 1 : 2.5;
      context.setLineDash(line.thin ? [] : line.dash);
      strokeLine(context, line.points.length, left, top);
      context.setLineDash([]);
      markLosses(context, line.points, left, top);
    }
    if (group.cursor === null) return;
    const x = plot.left(group.cursor);
    context.lineWidth = 1;
    context.strokeStyle = theme.muted;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, plot.height);
    context.stroke();
    for (const line of this.drawn) {
      if (line.thin || (selection.focused ? !lines.isFocused(line) : !line.coloured)) continue;
      const at = group.indexAtCursor(line.points);
      if (at < 0 || !Number.isFinite(line.points.values[at])) continue;
      const [left, top] = this.pen(line.points);
      fillDot(context, left(at), top(at), 4, theme.surface);
      fillDot(context, left(at), top(at), 3, line.colour);
    }
  }

  /** The focused line's value under the cursor, or its last one. */
  showReadout() {
    const { group } = this;
    const line = this.drawn.findLast((one) => group.lines.isFocused(one) && !one.thin);
    if (!line) {
      setText(this.readout, "");
      return;
    }
    const at = group.cursor === null ? line.points.length - 1 : group.indexAtCursor(line.points);
    setText(this.readout, at < 0 ? "" : valueText(line.points, at, this.metric));
    this.readout.style.color = line.colour;
  }

  point({ x, top, event }) {
    const { group } = this;
    group.setCursor(x);
    const here = [];
    let nearest = null;
    for (const line of this.drawn) {
      const at = group.indexAtCursor(line.points);
      if (at < 0) continue;
      const found = { line, at, value: line.points.values[at] };
      here.push(found);
      const distance = Math.abs(this.plot.top(found.value) - top);
      if (distance < (nearest?.distance ?? NEAR_PX)) nearest = { ...found, distance };
    }
    group.selection.focus(nearest?.line.configuration ?? null, nearest?.line.trial ?? null);
    const told = this.tooltipRows(here, nearest?.line);
    if ((event.buttons && event.pointerType !== "touch") || !told.length) group.tooltip.hide();
    else group.tooltip.show(event, this.positions(here, nearest), told);
  }

  /** Where the values told were measured, which is near the pointer and not under it. */
  positions(here, nearest) {
    const { axis } = this.group;
    const place = ({ line, at }) => line.points[axis.column][at] - this.group.origin(line.points);
    if (nearest) return axis.tell(place(nearest));
    const places = here.filter(({ line }) => line.coloured).map(place);
    const [low, high] = [Math.min(...places), Math.max(...places)];
    return axis.tell(low) === axis.tell(high) ? axis.tell(low) : `${axis.tell(low)} to ${axis.tell(high).replace(/^\D*/, "")}`;
  }

  /** The lines in colour and the focused one, highest value first. */
  tooltipRows(here, nearest) {
    const { lines } = this.group;
    const height = (value) => (Number.isFinite(value) ? value : -Infinity);
    return here
      .filter(({ line }) => (line.coloured && !line.thin) || line === nearest)
      .sort((a, b) => (b.line === nearest) - (a.line === nearest) || height(b.value) - height(a.value))
      .slice(0, MOST_TOLD)
      .map(({ line, at }) => ({ ...line, label: lines.label(line), value: valueText(line.points, at, this.metric), focused: line === nearest }));
  }

  leave() {
    this.group.tooltip.hide();
    this.group.selection.focus(null);
    this.group.setCursor(null);
  }

  /** The chart as a file. */
  file() {
    const title = () => `${metricInfo(this.metric).title}${metricInfo(this.metric).unit ? ` (${metricInfo(this.metric).unit})` : ""}`;
    return {
      plot: () => this.plot,
      paint: (context) => this.paintData(context),
      title,
      fileName: () => `${this.group.facts().fileName}-${this.metric}`,
      axes: () => ({ x: this.group.axis.title, y: "" }),
      legend: () => this.drawn.filter(({ coloured, thin }) => coloured && !thin).reverse().map((line) => ({ ...line, text: this.group.lines.label(line) })),
      rows: () => this.rows(),
    };
  }

  rows() {
    const { axis, lines } = this.group;
    const rows = [["configuration", "trial", axis.title, this.metric, "low", "high", "trials"]];
    for (const line of [...this.drawn].reverse()) {
      const { points } = line;
      const label = this.group.lines.data.configurations.get(line.configuration)?.label ?? lines.label(line);
      const origin = this.group.origin(points);
      for (let i = 0; i < points.length; i += 1) {
        rows.push([label, line.trial, points[axis.column][i] - origin, points.values[i], points.low?.[i], points.high?.[i], points.n?.[i]]);
      }
    }
    return rows;
  }
}

/** A value, with half the width of its band. */
export function valueText(points, at, metric) {
  const value = metricValue(points.values[at], metric);
  const half = points.high ? points.high[at] - points.values[at] : NaN;
  return Number.isFinite(half) ? `${value} ± ${metricValue(half, metric)}` : value;
}

const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Opacity of curves of which there are many: the more, the fainter each. */
export const crowdAlpha = (count) => Math.min(1, Math.max(0.35, 24 / Math.max(count, 1)));

/** Room for the bands of what is inside, up to half the height of the means: two seeds have wide ones. */
function withBands({ low, high }, extents) {
  const inside = extents.filter((extent) => extent.low >= low && extent.high <= high);
  const air = (high - low) / 2 || Infinity;
  return {
    low: Math.max(low - air, Math.min(low, ...inside.map(({ band }) => band[0]))),
    high: Math.min(high + air, Math.max(high, ...inside.map(({ band }) => band[1]))),
  };
}

/** Opacity of lines that stand out: of hundreds, as when all are in the colours of a field, none covers the others. */
export const frontAlpha = (count) => Math.min(1, Math.max(0.2, 40 / Math.max(count, 1)));

function logRange(low, high) {
  if (!(low <= high)) return [0.1, 1];
  return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
}

/** A cross on the last finite point before values stop being numbers. */
function markLosses(context, points, left, top) {
  for (let i = 1; i < points.length; i += 1) {
    if (Number.isFinite(points.values[i - 1]) && !Number.isFinite(points.values[i])) strokeCross(context, left(i - 1), top(i - 1));
  }
}
