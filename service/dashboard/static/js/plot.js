// The frame of a plot: uPlot draws axes and grid and does range selection; the curves are painted by the caller on two
// canvases over it. The lower one holds the data, the upper one what follows the pointer, so hovering repaints no data.
// uPlot's own series want one x column common to all; trials have one each, hence the own canvases.

/* global uPlot */

import { duration, tick } from "./format.js";
import { theme } from "./theme.js";

const FONT = "11px system-ui, sans-serif";
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

export class Plot {
  /**
   * @param host element that gives the plot its size
   * @param options paintData(context), paintFocus(context), onPoint({x, y, left, top, event}), onLeave(),
   *   onSelect([x0, x1], [y0, y1]) and onReset() for zooming, box: whether a zoom is one in y as well,
   *   xUnit() -> "number" or "seconds"
   */
  constructor(host, options) {
    this.host = host;
    this.options = options;
    this.x = [0, 1];
    this.y = [0, 1];
    this.isLog = false;
    this.frame = new uPlot(this.frameOptions(), [[0, 1], [0, 1]], host);
    this.data = this.addLayer("layer-data");
    this.focus = this.addLayer("layer-focus");
    this.measure();
    this.listen();
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(host);
  }

  dispose() {
    this.observer.disconnect();
    document.removeEventListener("pointerdown", this.away);
    this.frame.destroy();
  }

  /** Show these ranges and paint both layers. With `log` the y axis is logarithmic; its range is positive then. */
  show(x, y, log = false) {
    this.isLog = log;
    this.x = x;
    this.y = y.map((value) => this.scaled(value));
    this.frame.batch(() => {
      this.frame.setScale("x", { min: x[0], max: x[1] });
      this.frame.setScale("y", { min: this.y[0], max: this.y[1] });
    });
    this.paint();
  }

  paint() {
    this.draw(this.data, this.options.paintData);
    this.paintFocus();
  }

  paintFocus() {
    this.draw(this.focus, this.options.paintFocus);
  }

  /** Let the data stand back while one line is in focus. */
  subdue(on) {
    this.data.canvas.classList.toggle("subdued", on);
  }

  /** After a change of colours. */
  redraw() {
    this.frame.redraw(false, false);
    this.paint();
  }

  /** A value in the units of the y axis: itself or its logarithm. */
  scaled(value) {
    return this.isLog ? Math.log10(value) : value;
  }

  left(x) {
    return ((x - this.x[0]) / (this.x[1] - this.x[0])) * this.width;
  }

  top(y) {
    return (1 - (this.scaled(y) - this.y[0]) / (this.y[1] - this.y[0])) * this.height;
  }

  /** The ticks in view, as [position in CSS pixels, text]. */
  ticks() {
    const [x, y] = this.frame.axes;
    const told = (axis, place) => (axis._splits ?? []).map((at, k) => [place(at), axis._values[k]]);
    return {
      x: told(x, (at) => this.left(at)),
      y: told(y, (at) => (1 - (at - this.y[0]) / (this.y[1] - this.y[0])) * this.height),
    };
  }

  frameOptions() {
    const { xUnit, onSelect, onReset, box } = this.options;
    const axis = (extra) => ({
      font: FONT,
      stroke: () => theme.muted,
      grid: { stroke: () => theme.grid, width: 1 },
      ticks: { show: false },
      gap: 4,
      ...extra,
    });
    const seconds = () => xUnit?.() === "seconds";
    return {
      ...this.size(),
      legend: { show: false },
      padding: [6, 8, 0, 0],
      scales: { x: { time: false }, y: { auto: false } },
      series: [{}, { paths: () => null, points: { show: false } }],
      axes: [
        axis({
          size: 22,
          space: 56,
          incrs: (u, i, min, max) => (seconds() && max - min > 8 ? SECONDS : undefined) ?? decimalSteps(min, max),
          values: (u, splits) => splits.map(seconds() ? timeTick : tick),
        }),
        axis({
          size: 44,
          space: 30,
          incrs: (u, i, min, max) => (this.isLog && max - min > 2 ? [1, 2, 4, 8, 16] : decimalSteps(min, max)),
          values: (u, splits) => splits.map((at) => tick(this.isLog ? Number((10 ** at).toPrecision(2)) : at)),
        }),
      ],
      cursor: {
        x: false,
        y: false,
        points: { show: false },
        drag: { x: Boolean(onSelect), y: Boolean(box), setScale: false, dist: 6 },
        bind: { dblclick: () => () => onReset?.() },
      },
      hooks: {
        // Sizes take effect later than they are set.
        setSize: [() => this.data && this.measure()],
        setSelect: [
          (u) => {
            const { left, width, top, height } = u.select;
            if (width < 6 || (box && height < 6)) return;
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            onSelect([u.posToVal(left, "x"), u.posToVal(left + width, "x")], [u.posToVal(top + height, "y"), u.posToVal(top, "y")]);
          },
        ],
      },
    };
  }

  size() {
    return { width: Math.max(this.host.clientWidth, 120), height: Math.max(this.host.clientHeight, 80) };
  }

  fit() {
    const { width, height } = this.size();
    if (width === this.frame.width && height === this.frame.height) return;
    this.frame.setSize({ width, height });
  }

  /** Size of the plotting area in CSS pixels; kept, as asking the browser per point would be slow. */
  measure() {
    this.width = this.frame.over.clientWidth;
    this.height = this.frame.over.clientHeight;
    this.paint();
  }

  addLayer(name) {
    const canvas = document.createElement("canvas");
    canvas.className = name;
    this.frame.over.append(canvas);
    return { canvas, context: canvas.getContext("2d") };
  }

  draw({ canvas, context }, paint) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.width * ratio);
    const height = Math.round(this.height * ratio);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    paint(context);
  }

  /** A mouse shows values where it is; a tap shows them until the next tap elsewhere. */
  listen() {
    const { over } = this.frame;
    const tell = (event) => {
      const box = over.getBoundingClientRect();
      const left = event.clientX - box.left;
      const top = event.clientY - box.top;
      const x = this.x[0] + (left / box.width) * (this.x[1] - this.x[0]);
      this.options.onPoint({ x, left, top, event });
    };
    over.addEventListener("pointermove", tell);
    over.addEventListener("pointerdown", tell);
    over.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.options.onLeave());
    this.away = (event) => event.pointerType === "touch" && !event.target.closest(".chart-plot") && this.options.onLeave();
    document.addEventListener("pointerdown", this.away);
  }
}

/** "5m" rather than "5m 00s". */
const timeTick = (seconds) => duration(seconds).replace(/ 00[sm]$/, "");

/** Tick distances 1, 2, 5 around the span in view. */
function decimalSteps(min, max) {
  const top = Math.ceil(Math.log10(Math.max(max - min, 1e-12)));
  const steps = [];
  for (let power = top - 4; power <= top; power += 1) {
    for (const digit of [1, 2, 5]) steps.push(Number(`${digit}e${power}`));
  }
  return steps;
}

/** A range with some air, also where all values are the same. */
export function padded(low, high, share = 0.06) {
  if (low > high) return [0, 1];
  const air = (high - low) * share || Math.abs(low) * 0.05 || 0.5;
  return [low - air, high + air];
}

/** Stroke the line through points, with gaps at non-finite ones; a point without neighbours becomes a dot. */
export function strokeLine(context, count, left, top) {
  const lonely = [];
  let drawn = 0; // points of the current piece
  context.beginPath();
  for (let i = 0; i <= count; i += 1) {
    const x = i < count ? left(i) : NaN;
    const y = i < count ? top(i) : NaN;
    if (!(Number.isFinite(x) && Number.isFinite(y))) {
      if (drawn === 1) lonely.push(i - 1);
      drawn = 0;
    } else {
      if (drawn === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
      drawn += 1;
    }
  }
  context.stroke();
  for (const i of lonely) fillDot(context, left(i), top(i), 2, context.strokeStyle);
}

export function fillDot(context, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Fill between two lines over the same points, piece by piece where both are numbers. */
export function fillBand(context, count, left, low, high) {
  for (let start = 0; start < count; start += 1) {
    let end = start;
    while (end < count && Number.isFinite(low(end)) && Number.isFinite(high(end))) end += 1;
    if (end - start > 1) {
      context.beginPath();
      for (let i = start; i < end; i += 1) context.lineTo(left(i), high(i));
      for (let i = end - 1; i >= start; i -= 1) context.lineTo(left(i), low(i));
      context.fill();
    }
    start = end;
  }
}

/** A small cross: here a curve stopped being a number. */
export function strokeCross(context, x, y, size = 3) {
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(x - size, y - size);
  context.lineTo(x + size, y + size);
  context.moveTo(x - size, y + size);
  context.lineTo(x + size, y - size);
  context.stroke();
}
