// Parallel coordinates: an axis a swept field and a metric, a line a configuration. A stroke along an axis becomes terms
// of the filter, so that it goes for everything on the page, can be read, edited and sent; what does not pass is dim.

import { axesOf, brushOf, termsBetween } from "./axes.js";
import { crowdAlpha, frontAlpha } from "./chart.js";
import { saveMenu } from "./chart_files.js";
import { el, setAttribute } from "./dom.js";
import { termValue } from "./filter.js";
import { theme } from "./theme.js";

const [TOP, BOTTOM, SIDE] = [30, 26, 70];
const NEAR_AXIS_PX = 22;
const NEAR_LINE_PX = 12;
const LEAST_AXIS_PX = 92;
const STROKE_PX = 5; // shorter ones are clicks

export class Parallel {
  /** @param lines, @param tooltip, @param facts() -> {fileName}, @param onBrush(field, terms) */
  constructor({ lines, tooltip, facts, onBrush }) {
    Object.assign(this, { lines, tooltip, facts, onBrush });
    this.axes = [];
    this.width = this.height = 0;
    this.data = this.layer();
    this.focus = this.layer();
    this.box = el("div", { class: "parallel-plot", role: "img" }, this.data.canvas, this.focus.canvas);
    this.node = el(
      "details",
      { class: "card panel parallel" },
      el("summary", {}, "Fields and results"),
      el("div", { class: "panel-tools" }, el("span", { class: "muted wide-only" }, "drag along an axis to filter, click it to clear"), saveMenu(this.file())),
      el("div", { class: "parallel-scroll" }, this.box),
    );
    this.node.addEventListener("toggle", () => this.fit());
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.box);
    this.box.addEventListener("pointerdown", (event) => this.press(event));
    this.box.addEventListener("pointermove", (event) => this.move(event));
    this.box.addEventListener("pointerup", (event) => this.release(event));
    this.box.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.leave());
  }

  layer() {
    const canvas = el("canvas");
    return { canvas, context: canvas.getContext("2d") };
  }

  dispose() {
    this.observer.disconnect();
  }

  fit() {
    if (!this.node.open) return;
    const { clientWidth: width, clientHeight: height } = this.box;
    if (width === this.width && height === this.height) return;
    Object.assign(this, { width, height });
    this.refresh();
  }

  refresh() {
    const { data } = this.lines;
    if (!this.node.open || !data.answer || !this.width) return;
    this.axes = axesOf(data);
    const least = `${this.axes.length * LEAST_AXIS_PX}px`;
    if (this.box.style.minWidth !== least) this.box.style.minWidth = least; // on a phone it scrolls
    this.paths = data.answer.configurations.map((configuration) => ({ configuration, shares: this.axes.map((axis) => shareOf(axis, configuration)) }));
    const passing = this.lines.visible.configurations.size;
    setAttribute(this.box, "aria-label", `Fields and results of ${this.paths.length} configurations, ${passing} pass the filter`);
    this.draw(this.data, (context) => this.paint(context));
    this.paintFocus();
  }

  draw({ canvas, context }, paint) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    paint(context);
  }

  left(k) {
    const side = Math.min(SIDE, this.width * 0.12);
    return this.axes.length > 1 ? side + (k * (this.width - 2 * side)) / (this.axes.length - 1) : this.width / 2;
  }

  /** A value that is absent has a place below the axis. */
  top(share) {
    return share === null ? this.height - 8 : TOP + (1 - share) * (this.height - TOP - BOTTOM);
  }

  paint(context) {
    const { visible, selection, colours } = this.lines;
    const passes = ({ configuration }) => visible.configurations.has(configuration.number);
    const crowd = this.paths.filter((path) => !passes(path));
    const passing = this.paths.filter(passes).sort((a, b) => selection.isColoured(a.configuration.number) - selection.isColoured(b.configuration.number));
    context.lineJoin = "round";
    context.lineWidth = 1;
    context.strokeStyle = theme.dim;
    context.globalAlpha = 0.5 * crowdAlpha(crowd.length);
    for (const path of crowd) this.stroke(context, path);
    for (const path of passing) {
      const { number } = path.configuration;
      const coloured = selection.isColoured(number);
      context.strokeStyle = colours.of(number).colour;
      context.globalAlpha = coloured ? 0.9 * frontAlpha(selection.coloured.size) : 0.5 * crowdAlpha(passing.length);
      context.lineWidth = coloured ? 1.5 : 1;
      this.stroke(context, path);
    }
    context.globalAlpha = 1;
    this.paintAxes(context);
  }

  stroke(context, { shares }) {
    context.beginPath();
    let drawn = false;
    shares.forEach((share, k) => {
      if (share === undefined) drawn = false;
      else context[drawn ? "lineTo" : "moveTo"](this.left(k), this.top(share));
      drawn = share !== undefined;
    });
    context.stroke();
  }

  paintAxes(context) {
    context.lineWidth = 1;
    context.textBaseline = "alphabetic";
    this.axes.forEach((axis, k) => {
      const x = this.left(k);
      context.strokeStyle = theme.muted;
      context.beginPath();
      context.moveTo(x, this.top(1));
      context.lineTo(x, this.top(0));
      context.stroke();
      const brush = brushOf(axis, this.lines.visible.terms);
      if (brush) this.paintBrush(context, x, brush);
      context.font = "600 12px system-ui, sans-serif";
      context.textAlign = "center";
      context.fillStyle = theme.text;
      context.fillText(axis.title, x, 16);
      context.font = "11px system-ui, sans-serif";
      context.textAlign = "left";
      context.lineWidth = 3;
      context.strokeStyle = theme.surface;
      for (const [share, text] of axis.ticks) {
        context.strokeText(text, x + 5, this.top(share) + 4);
        context.fillStyle = theme.muted;
        context.fillText(text, x + 5, this.top(share) + 4);
      }
      context.lineWidth = 1;
    });
    context.textAlign = "left";
  }

  paintBrush(context, x, [low, high]) {
    context.globalAlpha = 0.3;
    context.fillStyle = theme.accent;
    context.fillRect(x - 6, this.top(high), 12, this.top(low) - this.top(high));
    context.globalAlpha = 1;
  }

  paintFocus() {
    if (!this.node.open || !this.width) return;
    this.draw(this.focus, (context) => {
      const { selection, colours } = this.lines;
      const path = this.paths?.find(({ configuration }) => configuration.number === selection.focused?.configuration);
      if (path) {
        context.lineJoin = "round";
        context.strokeStyle = theme.surface;
        context.lineWidth = 6;
        this.stroke(context, path);
        context.strokeStyle = colours.of(path.configuration.number).colour;
        context.lineWidth = 2.5;
        this.stroke(context, path);
      }
      if (this.pressed?.to !== undefined) this.paintBrush(context, this.left(this.pressed.axis), [this.pressed.from, this.pressed.to].sort((a, b) => a - b));
    });
  }

  at(event) {
    const box = this.box.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    const share = Math.min(1, Math.max(0, 1 - (y - TOP) / (this.height - TOP - BOTTOM)));
    const axis = this.axes.findIndex((_, k) => Math.abs(this.left(k) - x) < NEAR_AXIS_PX);
    return { x, y, share, axis };
  }

  press(event) {
    const { y, share, axis } = this.at(event);
    if (axis < 0) return;
    this.box.setPointerCapture(event.pointerId);
    this.pressed = { axis, from: share, y };
    event.preventDefault();
  }

  move(event) {
    const { x, y, share } = this.at(event);
    if (this.pressed) {
      if (Math.abs(y - this.pressed.y) > STROKE_PX) this.pressed.to = share;
      this.tooltip.hide();
      this.paintFocus();
      return;
    }
    const near = this.nearest(x, y);
    this.lines.selection.focus(near?.number ?? null);
    if (!near) this.tooltip.hide();
    else this.tooltip.show(event, near.label, this.axes.map((axis) => ({ label: axis.title, value: told(axis, near) })));
  }

  release() {
    if (!this.pressed) return;
    const { axis, from, to } = this.pressed;
    this.pressed = null;
    this.onBrush(this.axes[axis].name, to === undefined ? [] : termsBetween(this.axes[axis], from, to, termValue));
  }

  nearest(x, y) {
    let best = null;
    const { visible } = this.lines;
    for (const { configuration, shares } of this.paths ?? []) {
      if (!visible.configurations.has(configuration.number)) continue;
      for (let k = 0; k + 1 < shares.length; k += 1) {
        const [left, right] = [this.left(k), this.left(k + 1)];
        if (x < left || x > right || shares[k] === undefined || shares[k + 1] === undefined) continue;
        const [from, to] = [this.top(shares[k]), this.top(shares[k + 1])];
        const slope = (to - from) / (right - left);
        const distance = Math.abs(from + slope * (x - left) - y) / Math.hypot(1, slope);
        if (distance < (best?.distance ?? NEAR_LINE_PX)) best = { configuration, distance };
      }
    }
    return best?.configuration ?? null;
  }

  leave() {
    this.tooltip.hide();
    if (!this.pressed) this.lines.selection.focus(null);
  }

  file() {
    return {
      plot: () => ({ width: this.width, height: this.height, ticks: () => ({ x: [], y: [] }) }),
      paint: (context) => this.paint(context),
      title: () => "Fields and results",
      fileName: () => `${this.facts().fileName}-fields`,
      axes: () => ({ x: "", y: "" }),
      legend: () => [],
      rows: () => [
        ["configuration", ...this.axes.map(({ name }) => name)],
        ...this.paths.map(({ configuration }) => [configuration.label, ...this.axes.map((axis) => axis.value(configuration))]),
      ],
    };
  }
}

/** Place on an axis; null for a field it does not have, undefined for a metric it has not measured. */
function shareOf(axis, configuration) {
  const value = axis.value(configuration);
  if (value === undefined) return axis.isMetric ? undefined : null;
  return axis.share(value);
}

function told(axis, configuration) {
  const value = axis.value(configuration);
  return value === undefined ? "–" : axis.tell(value);
}
