// The page of one experiment: lays out its parts and tells each what changed, in batches. What is read and how fresh it
// is, is the data's; what was chosen (filter, colours, axes, zoom, orders) is in the address.

import { AnswerPanel } from "./answer.js";
import { ChartGroup } from "./charts.js";
import { Colours } from "./colours.js";
import { ColumnMenu } from "./columns.js";
import { Controls } from "./controls.js";
import { el } from "./dom.js";
import { ExperimentData } from "./experiment_data.js";
import { withTerms } from "./filter.js";
import { FrameBatch } from "./frames.js";
import { ExperimentHeader } from "./header.js";
import { ImportancePanel } from "./importance.js";
import { Lines } from "./lines.js";
import { problemNotice } from "./notice.js";
import { dataPanel, historyPanel, logsPanel, specPanel } from "./panels.js";
import { Parallel } from "./parallel.js";
import { Plane } from "./plane.js";
import { Selection } from "./selection.js";
import { onThemeChange } from "./theme.js";
import { Tooltip } from "./tooltip.js";
import { TrialTable } from "./trials.js";
import { ViewState } from "./viewstate.js";
import { Visible } from "./visible.js";
import { chartMetrics, isEnded, metricInfo, metricNames } from "./words.js";

const CHOSEN_AT_FIRST = "erank_r";
const METRIC_NAME = /^[a-z][a-z0-9_]*$/; // an address may hold anything
const MOST_FIELD_COLUMNS = 6; // shown at first
const OPEN_FROM = 12; // configurations from which parallel coordinates are unfolded at first

export function mountExperiment(root, { id, session, page }) {
  const view = new ExperimentPage(root, id, session, page);
  view.data.load();
  return () => view.dispose();
}

class ExperimentPage {
  constructor(root, id, session, page) {
    Object.assign(this, { root, id, session, page });
    this.view = new ViewState();
    this.data = new ExperimentData(id, {
      change: (what) => this.changed(what),
      live: (status) => this.showLive(status),
      failed: (problem) => this.failed(problem),
    });
    this.tooltip = new Tooltip();
    this.selection = new Selection(() => this.chose(), () => this.showFocus());
    this.selection.picked = new Set(this.view.numbers("pick"));
    this.selection.opened = new Set(this.view.numbers("open"));
    this.colours = new Colours();
    this.visible = new Visible(this.data);
    this.lines = new Lines(this.data, this.selection, this.colours, this.visible);
    this.batch = new FrameBatch(() => this.render());
    this.clock = setInterval(() => this.header?.tick(), 1000);
    const { signal } = this.data;
    document.addEventListener("visibilitychange", () => this.data.lookedAt(!document.hidden), { signal });
    onThemeChange(() => this.header && this.render(true), signal);
    page.setTitle(`Experiment ${id}`);
  }

  dispose() {
    this.data.dispose();
    clearInterval(this.clock);
    this.batch.dispose();
    this.tooltip.dispose();
    this.group?.dispose();
    this.plane?.dispose();
    this.parallel?.dispose();
  }

  failed(problem) {
    if (problem.status === 404) {
      this.dispose();
      this.page.setLive(null);
      this.root.replaceChildren(problemNotice(problem, null, true));
    } else if (!this.header) this.root.replaceChildren(problemNotice(problem, () => this.data.load(), true));
    else this.page.setLive("lost", "reconnecting");
  }

  showLive(status) {
    if (isEnded(this.data.experiment.state)) this.page.setLive(null);
    else this.page.setLive(status, status === "live" ? "live" : "reconnecting");
  }

  changed(what) {
    if (!this.data.answer) return;
    if (!this.header) this.build();
    if (what === "answer") this.importance.changed();
    if (what === "points") this.batch.request();
    else if (this.drawn) this.batch.request();
    else this.render();
    this.drawn = true;
  }

  build() {
    const { data, selection, colours, visible, view, tooltip, lines } = this;
    const { role, name } = this.session ?? {};
    this.header = new ExperimentHeader({
      mayChange: ({ owner }) => role === "admin" || (role === "submitter" && owner === name),
      mayClone: () => role === "admin" || role === "submitter",
      onExperiment: (changed) => data.acted(changed),
    });
    const parts = { data, selection, colours, visible, view, shown: () => this.shownColumns(), fileName: () => this.facts().fileName };
    this.columns = new ColumnMenu((shown) => this.set({ cols: shown }));
    this.answer = new AnswerPanel(parts);
    this.table = new TrialTable(parts, [this.columns.node]);
    this.importance = new ImportancePanel(this.id, data.signal);
    const facts = () => this.facts();
    this.group = new ChartGroup({ lines, tooltip, facts });
    this.parallel = new Parallel({ lines, tooltip, facts, onBrush: (field, terms) => this.set({ q: withTerms(view.get("q"), field, terms) }) });
    this.controls = new Controls(view, (changes) => this.set(changes), () => this.group.setZoom(null));
    const grid = el("div", { class: "charts" });
    this.root.replaceChildren(
      this.header.node,
      this.answer.node,
      el("section", { "aria-label": "Curves" }, this.controls.node, grid),
      el("div", { class: "panels" }, this.parallel.node, this.importance.node),
      this.table.node,
      el("div", { class: "panels" }, specPanel(data.experiment), historyPanel(this.id, data.signal), dataPanel(this.id, data.signal), logsPanel(this.id, data.signal)),
    );
    this.buildCharts(grid);
    this.restore();
  }

  buildCharts(grid) {
    const { group, view } = this;
    const card = (className) => grid.appendChild(el("article", { class: `card chart ${className}` }));
    const { metric } = this.data.answer;
    for (const name of new Set([...chartMetrics(), metric])) group.add(name, card(name));
    const asked = view.get("metric");
    const chosen = METRIC_NAME.test(asked) ? asked : CHOSEN_AT_FIRST;
    this.select = el("select", { class: "chart-select", "aria-label": "Metric of this chart" });
    this.offerMetrics(chosen);
    this.select.value = chosen;
    this.select.addEventListener("change", () => this.choose(this.select.value));
    this.chosen = group.add(chosen, card("chosen"), this.select);
    this.plane = new Plane({ host: card("phase"), group, onChange: () => view.set({ plane: this.plane.zoom?.map(shortNumber), paths: this.plane.showsPaths ? 1 : "" }) });
    group.onCursor = () => this.paintPlaneFocus();
    group.onZoom = (range) => this.zoomed(range);
    group.onLog = () => view.set({ log: group.charts.filter(({ isLog }) => isLog).map((chart) => chart.metric) });
  }

  /** Bring back what the address says. */
  restore() {
    const { view, group, data } = this;
    if (["step", "time"].includes(view.get("x"))) group.axisName = view.get("x");
    const zoom = view.numbers("zoom");
    group.zoom = zoom.length === 2 && zoom[0] < zoom[1] ? zoom : null;
    for (const chart of group.charts) if (view.list("log").includes(chart.metric)) chart.setLog(true);
    if (view.get("paths")) this.plane.setPaths(true);
    const plane = view.numbers("plane");
    if (plane.length === 4) this.plane.setZoom(plane);
    const panels = { parallel: this.parallel.node, importance: this.importance.node };
    const many = data.answer.configurations.length > OPEN_FROM && data.answer.fields.length > 1;
    const open = view.values.has("panels") ? view.list("panels") : many ? ["parallel"] : [];
    for (const [name, node] of Object.entries(panels)) {
      node.open = open.includes(name);
      node.addEventListener("toggle", () => view.set({ panels: Object.keys(panels).filter((key) => panels[key].open).join(",") || "none" }));
    }
  }

  /** Change what was chosen, and show it. */
  set(changes) {
    this.view.set(changes);
    if ("x" in changes) this.group.setAxis(changes.x || "epoch");
    this.render();
  }

  /** Configurations were picked or opened. */
  chose() {
    const { picked, opened } = this.selection;
    this.view.set({ pick: [...picked], open: [...opened] });
    this.render();
  }

  facts() {
    const { experiment, answer } = this.data;
    const ended = isEnded(experiment.state);
    const why = experiment.state_reason ?? [...this.data.trials.values()].find(({ error }) => error)?.error;
    const none = this.data.hasRead ? "no points yet" : "loading…";
    const left = ended && this.data.hasRead ? ["no points", why].filter(Boolean).join(": ") : none;
    return {
      empty: this.visible.terms.length && !this.visible.configurations.size ? "nothing passes the filter" : left,
      fileName: `${experiment.name.replace(/[^\w.-]+/g, "-")}-${experiment.id}`,
      notComparable: (metric) => answer.not_comparable[metric] ?? "",
    };
  }

  /** Bring every part up to date. @param recoloured whether light and dark changed */
  render(recoloured = false) {
    const { data, view, selection, group } = this;
    const { experiment, answer } = data;
    this.page.setTitle(experiment.name);
    this.header.update(experiment, [...data.trials.values()]);
    this.visible.update(view.get("q"));
    this.colours.update(answer.configurations, answer.fields, view.get("color"));
    selection.update(this.bestFirst(), this.colours.by !== "");
    this.parallel.node.hidden = this.importance.node.hidden = answer.configurations.length < 2 || answer.fields.length === 0;
    const seeds = Math.max(0, ...answer.configurations.map(({ trials }) => trials.length));
    this.lines.single = view.get("show", seeds > 1 ? "mean" : "trials") === "trials";
    this.controls.update({ data, visible: this.visible, colours: this.colours, single: this.lines.single, seeds, axis: group.axisName, zoomed: group.zoom !== null });
    this.columns.update(this.columnsOnOffer(), this.shownColumns());
    this.offerMetrics();
    data.need({ metrics: group.metrics, axis: group.axisName, zoom: group.zoom, ...this.lines.needs() });
    this.answer.update(answer);
    this.table.update(isEnded(experiment.state));
    group.refresh();
    this.plane.refresh();
    this.parallel.refresh();
    if (recoloured) for (const { plot } of [...group.charts, this.plane]) plot.redraw();
    if (isEnded(experiment.state)) this.page.setLive(null);
  }

  /** Numbers of the shown configurations: in the answer's order, those without a rank by their values. */
  bestFirst() {
    const { answer } = this.data;
    const sign = answer.mode === "min" ? -1 : 1;
    const score = (configuration) => {
      const value = Number(this.data.valueOf(configuration, answer.metric) ?? NaN);
      return Number.isFinite(value) ? sign * value : -Infinity;
    };
    const shown = answer.configurations.filter(({ number }) => this.visible.configurations.has(number));
    const scored = shown.map((configuration) => [configuration, score(configuration)]);
    scored.sort(([a, x], [b, y]) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || (y === x ? 0 : y - x) || a.number - b.number);
    return scored.map(([{ number }]) => number);
  }

  columnsOnOffer() {
    const swept = this.data.answer.fields.map(({ name }) => ({ key: name, title: name }));
    const known = new Set(swept.map(({ key }) => key));
    const metrics = this.metricsOnOffer().filter((name) => !known.has(name));
    return [...swept, ...metrics.map((name) => ({ key: name, title: metricInfo(name).title }))];
  }

  shownColumns() {
    if (this.view.values.has("cols")) return this.view.list("cols");
    const { answer } = this.data;
    const swept = answer.fields.slice(0, MOST_FIELD_COLUMNS).map(({ name }) => name);
    return [...new Set([...swept, ...chartMetrics(), answer.metric])];
  }

  /** Metrics that are known by name or were reported by a trial. */
  metricsOnOffer() {
    const reported = [...this.data.trials.values()].slice(0, 50).flatMap((trial) => Object.keys(trial.latest ?? {}));
    return [...new Set([...metricNames(), ...reported])];
  }

  offerMetrics(more) {
    const offered = new Set([...this.select.options].map((option) => option.value));
    for (const name of new Set([...this.metricsOnOffer(), ...(more ? [more] : [])])) {
      if (!offered.has(name)) this.select.append(el("option", { value: name }, metricInfo(name).title));
    }
  }

  choose(metric) {
    this.chosen.metric = metric;
    this.view.set({ metric: metric === CHOSEN_AT_FIRST ? "" : metric });
    this.render();
  }

  /** A zoomed range is read by itself: of a long series there are more points in it than the whole shows. */
  zoomed(range) {
    this.view.set({ zoom: range?.map(shortNumber) ?? "" });
    this.controls.showZoom(range !== null);
    this.data.need({ zoom: range, axis: this.group.axisName });
  }

  showFocus() {
    this.answer.table.showFocus();
    this.table.showFocus();
    this.group.paintFocus();
    this.paintPlaneFocus();
  }

  paintPlaneFocus() {
    if (this.planeFrame) return;
    this.planeFrame = requestAnimationFrame(() => {
      this.planeFrame = null;
      this.plane.paintFocus();
      this.parallel.paintFocus();
    });
  }
}

const shortNumber = (number) => Number(number.toPrecision(5));
