// The plane of H(R) and I(R;Z): where each configuration ended, mean and interval over its seeds both ways. Its path
// through training shows on demand, under the pointer, and while nothing has ended yet.

import { crowdAlpha } from "./chart.js";
import { saveMenu } from "./chart_files.js";
import { el, setAttribute, setText } from "./dom.js";
import { metricValue, parseFloatJson } from "./format.js";
import { Plot, fillDot, padded, strokeLine } from "./plot.js";
import { rangeOfDots } from "./ranges.js";
import { lowerBound } from "./series.js";
import { theme } from "./theme.js";
import { metricInfo } from "./words.js";

const [ACROSS, UP] = ["h_r", "i_rz"];
const NEAR_PX = 24;
const LABELLED = 13; // with more in colour, their names beside them would overlap

export class Plane {
  /** @param group the chart group whose cursor is followed, @param onChange() after paths or zoom were chosen */
  constructor({ host, group, onChange }) {
    Object.assign(this, { group, onChange });
    this.ends = []; // {configuration, x, y, xs: [low, high] or null, ys, settled, look}
    this.tracks = []; // {line, x, y}
    this.zoom = null; // [x0, x1, y0, y1]
    this.showsPaths = false;
    this.note = el("span", { class: "chart-note" });
    this.paths = el("button", { type: "button", class: "chart-log", "aria-pressed": "false", title: "Paths through training" }, "paths");
    this.paths.addEventListener("click", () => this.setPaths(!this.showsPaths));
    this.reset = el("button", { type: "button", class: "chart-log", hidden: true, onclick: () => this.setZoom(null) }, "whole");
    this.empty = el("p", { class: "chart-empty" }, "no points yet");
    const axes = [el("span", { class: "axis-name x" }, "H(R) →"), el("span", { class: "axis-name y" }, "↑ I(R;Z)")];
    this.box = el("div", { class: "chart-plot", role: "img" }, this.empty, ...axes);
    const tools = el("span", { class: "chart-tools" }, this.reset, this.paths, saveMenu(this.file()));
    host.append(el("header", { class: "chart-head" }, el("h3", {}, "I(R;Z) against H(R)"), this.note, tools), this.box);
    this.plot = new Plot(this.box, {
      box: true,
      paintData: (context) => this.paintData(context),
      paintFocus: (context) => this.paintFocusLayer(context),
      onPoint: (point) => this.point(point),
      onLeave: () => this.leave(),
      onSelect: (x, y) => this.setZoom([...x, ...y]),
      onReset: () => this.setZoom(null),
    });
  }

  get lines() {
    return this.group.lines;
  }

  dispose() {
    this.plot.dispose();
  }

  setPaths(on) {
    this.showsPaths = on;
    setAttribute(this.paths, "aria-pressed", String(on));
    this.onChange();
    this.refresh();
  }

  setZoom(zoom) {
    this.zoom = zoom?.length === 4 ? zoom : null;
    this.reset.hidden = this.zoom === null;
    this.onChange();
    this.refresh();
  }

  refresh() {
    const { data, visible, selection, colours } = this.lines;
    this.join();
    const last = new Map(this.tracks.map((track) => [track.line.configuration, track]));
    this.ends = [...visible.configurations]
      .map((number) => endOf(data.configurations.get(number), last.get(number)))
      .filter(Boolean)
      .map((end) => ({ ...end, ...colours.of(end.configuration), coloured: selection.isColoured(end.configuration) }))
      .sort((a, b) => a.coloured - b.coloured);
    this.empty.hidden = this.ends.length > 0;
    setText(this.empty, this.group.facts().empty);
    const settled = this.ends.filter((end) => end.settled).length;
    const intervals = this.ends.some(({ xs }) => xs !== null);
    setText(this.note, intervals ? "mean, 95 % interval over seeds" : settled ? "where training ended" : "where training is");
    setAttribute(this.box, "aria-label", `I(R;Z) against H(R): ${this.ends.length} configurations`);
    const [x0, x1, y0, y1] = this.zoom ?? [...this.range("x", "xs"), ...this.range("y", "ys")];
    this.plot.show([x0, x1], [y0, y1]);
  }

  /** What most ends need with their intervals, and most of the paths that are shown. Picked ones are inside. */
  range(at, interval) {
    const { picked } = this.lines.selection;
    const dots = rangeOfDots(this.ends.map((end) => end[at]));
    const chosen = this.ends.filter(({ configuration }) => picked.has(configuration)).map((end) => end[at]);
    const paths = rangeOfDots(this.shownTracks().flatMap((track) => track[at]));
    const low = Math.min(dots.low, paths.low, ...chosen);
    const high = Math.max(dots.high, paths.high, ...chosen);
    const inside = this.ends.filter((end) => end.coloured && end[interval] && end[at] >= low && end[at] <= high).map((end) => end[interval]);
    const air = high - low || Infinity; // a wide interval of two seeds does not squeeze the means
    return padded(
      Math.max(low - air, Math.min(low, ...inside.map(([from]) => from))),
      Math.min(high + air, Math.max(high, ...inside.map(([, to]) => to))),
    );
  }

  /** Pair the two metrics of every line: I(R;Z) read off where H(R) was measured, on the line between its own points. */
  join() {
    const { column } = this.group.axis;
    const key = ({ configuration, trial }) => `${configuration}/${trial}`;
    const up = new Map(this.lines.of(UP).map((line) => [key(line), line.points]));
    this.tracks = this.lines
      .of(ACROSS)
      .filter((line) => up.has(key(line)))
      .map((line) => {
        const other = up.get(key(line));
        return { line, x: line.points.values, y: line.points[column].map((at) => valueAt(other, column, at)) };
      });
  }

  shownTracks() {
    const running = new Set(this.ends.filter((end) => !end.settled).map(({ configuration }) => configuration));
    return this.tracks.filter(({ line }) => line.coloured && (this.showsPaths || running.has(line.configuration)));
  }

  pen({ x, y }) {
    return [(k) => this.plot.left(x[k]), (k) => this.plot.top(y[k])];
  }

  paintData(context) {
    context.lineJoin = "round";
    context.globalAlpha = 0.7;
    for (const track of this.shownTracks()) {
      context.strokeStyle = track.line.colour;
      context.lineWidth = track.line.thin ? 0.7 : 1.2;
      context.setLineDash(track.line.thin ? [] : track.line.dash);
      strokeLine(context, track.x.length, ...this.pen(track));
    }
    context.setLineDash([]);
    const crowd = this.ends.filter(({ coloured }) => !coloured).length;
    for (const end of this.ends) {
      context.globalAlpha = end.coloured ? 1 : 0.6 * crowdAlpha(crowd);
      if (end.coloured) this.whiskers(context, end);
      this.dot(context, end, end.coloured ? 4 : 2.5);
    }
    context.globalAlpha = 1;
    if (this.lines.selection.coloured.size <= LABELLED) this.name(context, this.ends.filter(({ coloured }) => coloured));
  }

  whiskers(context, { x, y, xs, ys, colour }) {
    const [left, top] = [this.plot.left(x), this.plot.top(y)];
    context.strokeStyle = colour;
    context.lineWidth = 1.1;
    context.beginPath();
    if (xs) {
      context.moveTo(this.plot.left(xs[0]), top);
      context.lineTo(this.plot.left(xs[1]), top);
    }
    if (ys) {
      context.moveTo(left, this.plot.top(ys[0]));
      context.lineTo(left, this.plot.top(ys[1]));
    }
    context.stroke();
  }

  /** A full dot where training has ended, a ring where it goes on. */
  dot(context, end, radius) {
    const [x, y] = [this.plot.left(end.x), this.plot.top(end.y)];
    fillDot(context, x, y, radius + 1, theme.surface);
    fillDot(context, x, y, radius, end.coloured ? end.colour : theme.muted);
    if (!end.settled) fillDot(context, x, y, radius - 1.5, theme.surface);
  }

  /** Names beside the ends; one that would cover another is left out. */
  name(context, ends) {
    const taken = [];
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = theme.surface;
    const order = this.lines.data.answer?.configurations.map(({ number }) => number) ?? [];
    for (const end of ends.sort((a, b) => order.indexOf(a.configuration) - order.indexOf(b.configuration))) {
      const text = shortened(this.lines.data.configurations.get(end.configuration)?.label ?? "");
      const width = context.measureText(text).width;
      const [left, y] = [this.plot.left(end.x), this.plot.top(end.y) - 9];
      const x = left + 7 + width > this.plot.width ? left - 7 - width : left + 7;
      if (x < 0 || taken.some((other) => Math.abs(other.y - y) < 12 && x < other.x + other.width && other.x < x + width)) continue;
      taken.push({ x, y, width });
      context.strokeText(text, x, y);
      context.fillStyle = end.colour;
      context.fillText(text, x, y);
    }
  }

  paintFocus() {
    this.plot.subdue(this.lines.selection.focused !== null);
    this.plot.paintFocus();
  }

  paintFocusLayer(context) {
    const { selection } = this.lines;
    for (const track of this.tracks.filter(({ line }) => this.lines.isFocused(line))) {
      context.lineJoin = "round";
      context.strokeStyle = theme.surface;
      context.lineWidth = 5;
      strokeLine(context, track.x.length, ...this.pen(track));
      context.strokeStyle = track.line.colour;
      context.lineWidth = track.line.thin ? 1 : 2;
      strokeLine(context, track.x.length, ...this.pen(track));
    }
    const end = this.ends.find(({ configuration }) => configuration === selection.focused?.configuration);
    if (end) {
      this.whiskers(context, end);
      this.dot(context, { ...end, coloured: true }, 5.5);
    }
    this.paintCursor(context);
  }

  /** Where training was at the x under the cursor of the charts. */
  paintCursor(context) {
    const { selection } = this.lines;
    if (this.group.cursor === null) return;
    for (const { line, x, y } of this.tracks) {
      if (line.thin || (selection.focused ? !this.lines.isFocused(line) : !line.coloured)) continue;
      const at = this.group.indexAtCursor(line.points);
      if (at < 0 || !Number.isFinite(x[at]) || !Number.isFinite(y[at])) continue;
      fillDot(context, this.plot.left(x[at]), this.plot.top(y[at]), 4, theme.surface);
      fillDot(context, this.plot.left(x[at]), this.plot.top(y[at]), 3, line.colour);
    }
  }

  point({ left, top, event }) {
    const near = this.nearest(left, top);
    this.lines.selection.focus(near?.configuration ?? null);
    if (!near) {
      this.group.tooltip.hide();
      return;
    }
    const { data } = this.lines;
    const configuration = data.configurations.get(near.configuration);
    const metric = data.answer.metric;
    const row = (label, value) => ({ label, value });
    this.group.tooltip.show(event, configuration.label, [
      row(metricInfo(ACROSS).title, withInterval(near.x, near.xs, ACROSS)),
      row(metricInfo(UP).title, withInterval(near.y, near.ys, UP)),
      row(metricInfo(metric).title, configuration.cells[2] ?? metricValue(data.valueOf(configuration, metric), metric)),
      row("seeds", String(configuration.seeds.length)),
    ]);
  }

  nearest(left, top) {
    let best = null;
    for (const end of this.ends) {
      const distance = Math.hypot(this.plot.left(end.x) - left, this.plot.top(end.y) - top) + (end.coloured ? 0 : 4);
      if (distance < (best?.distance ?? NEAR_PX)) best = { ...end, distance };
    }
    for (const { line, x, y } of this.shownTracks()) {
      for (let k = 0; k < x.length; k += 1) {
        const distance = Math.hypot(this.plot.left(x[k]) - left, this.plot.top(y[k]) - top) + 4;
        if (distance < (best?.distance ?? NEAR_PX)) best = { ...this.ends.find((end) => end.configuration === line.configuration), distance };
      }
    }
    return best?.configuration === undefined ? null : best;
  }

  leave() {
    this.group.tooltip.hide();
    this.lines.selection.focus(null);
  }

  file() {
    return {
      plot: () => this.plot,
      paint: (context) => this.paintData(context),
      title: () => "I(R;Z) against H(R)",
      fileName: () => `${this.group.facts().fileName}-plane`,
      axes: () => ({ x: "H(R) (nats)", y: "I(R;Z) (nats)" }),
      legend: () => this.ends.filter(({ coloured }) => coloured).map((end) => ({ ...end, text: this.lines.data.configurations.get(end.configuration).label })),
      rows: () => [
        ["configuration", "seeds", "h_r", "h_r_low", "h_r_high", "i_rz", "i_rz_low", "i_rz_high"],
        ...this.ends.map(({ configuration, x, y, xs, ys }) => {
          const { label, seeds } = this.lines.data.configurations.get(configuration);
          return [label, seeds.length, x, xs?.[0], xs?.[1], y, ys?.[0], ys?.[1]];
        }),
      ],
    };
  }
}

/** Where a configuration is: the answer's means, or the last point of its path; null where it is nowhere yet. */
function endOf(configuration, track) {
  const [across, up] = [configuration?.statistics[ACROSS], configuration?.statistics[UP]];
  const interval = (found) => (found.low === null ? null : [found.low, found.high]);
  if (across && up) {
    return { configuration: configuration.number, x: across.mean, y: up.mean, xs: interval(across), ys: interval(up), settled: true };
  }
  for (let k = (track?.x.length ?? 0) - 1; k >= 0; k -= 1) {
    const [x, y] = [parseFloatJson(track.x[k]), track.y[k]];
    if (Number.isFinite(x) && Number.isFinite(y)) return { configuration: configuration.number, x, y, xs: null, ys: null, settled: false };
  }
  return null;
}

function withInterval(mean, interval, metric) {
  return interval ? `${metricValue(mean, metric)} ± ${metricValue(interval[1] - mean, metric)}` : metricValue(mean, metric);
}

const shortened = (text) => (text.length > 28 ? `${text.slice(0, 27)}…` : text);

/** A line's value at a place of a column, on the line between its neighbours; NaN outside or beside a gap. */
function valueAt(points, column, at) {
  const xs = points[column];
  const right = lowerBound(xs, at);
  if (right === xs.length) return NaN;
  if (xs[right] === at) return points.values[right];
  if (right === 0) return NaN;
  const share = (at - xs[right - 1]) / (xs[right] - xs[right - 1]);
  return points.values[right - 1] * (1 - share) + points.values[right] * share;
}
