// The curves of one trial, a small chart a metric, over epochs. A curve that is not finite somewhere has a gap there.

import { el, setText } from "./dom.js";
import { metricValue, parseFloatJson, tick } from "./format.js";
import { theme } from "./theme.js";
import { metricInfo } from "./words.js";

const HEIGHT = 170;

export class TrialCurves {
  constructor() {
    this.charts = new Map(); // metric -> {card, plot, readout}
    this.node = el("div", { class: "trial-curves" });
    this.cursor = uPlot.sync("trial");
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.node);
  }

  dispose() {
    this.observer.disconnect();
    for (const { plot } of this.charts.values()) plot.destroy();
    this.charts.clear();
  }

  /** @param series [{metric, epochs, values}] as the service gives them, those without points left out; @param order */
  show(series, order) {
    const sorted = [...series].sort((a, b) => order.indexOf(a.metric) - order.indexOf(b.metric));
    for (const { metric, epochs, values } of sorted) {
      if (!epochs.length) continue;
      const numbers = values.map(parseFloatJson);
      const data = [epochs.map(parseFloatJson), numbers.map((value) => (Number.isFinite(value) ? value : null))];
      if (!this.charts.has(metric)) this.add(metric, data);
      const chart = this.charts.get(metric);
      chart.values = numbers;
      chart.plot.setData(data);
      chart.figure.setAttribute("aria-label", `${metricInfo(metric).title}: ${numbers.length} points, the last ${metricValue(numbers.at(-1), metric)}`);
      this.read(metric, null);
    }
  }

  add(metric, data) {
    const readout = el("span", { class: "chart-readout" });
    const figure = el("div", { role: "img" });
    const { title, description } = metricInfo(metric);
    const card = el("article", { class: "card chart" }, el("div", { class: "chart-head" }, el("h3", { title: description || null }, title), readout), figure);
    this.node.append(card);
    const plot = new uPlot(this.options(metric), data, figure);
    this.charts.set(metric, { card, figure, plot, readout, values: [] });
  }

  options(metric) {
    const axis = { stroke: () => theme.muted, grid: { stroke: () => theme.grid, width: 1 }, ticks: { show: false }, font: "11px system-ui", values: (_, all) => all.map(tick) };
    return {
      width: this.width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: this.cursor.key, setSeries: false }, drag: { x: false, y: false } },
      scales: { x: { time: false } },
      axes: [{ ...axis, size: 28 }, { ...axis, size: 46 }],
      series: [{}, { stroke: () => theme.trials[0], width: 1.6, spanGaps: false, points: { show: (u) => u.data[0].length < 3 } }],
      hooks: { setCursor: [(u) => this.read(metric, u.cursor.idx)] },
    };
  }

  /** Say the value under the cursor, or the last. */
  read(metric, index) {
    const chart = this.charts.get(metric);
    if (!chart) return;
    const at = index ?? chart.values.length - 1;
    const epoch = index === null ? "" : ` at epoch ${tick(Number(chart.plot.data[0][at]?.toFixed(2)))}`;
    setText(chart.readout, metricValue(chart.values[at], metric) + epoch);
  }

  width() {
    const columns = getComputedStyle(this.node).gridTemplateColumns.split(" ");
    return Math.max(200, (parseFloat(columns[0]) || this.node.clientWidth || 340) - 14);
  }

  resize() {
    const width = this.width();
    for (const { plot } of this.charts.values()) if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
  }

  redraw() {
    for (const { plot } of this.charts.values()) plot.redraw();
  }
}
