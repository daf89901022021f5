// The table of configurations: numbers and words of the answer, its intervals drawn, a column a swept field. A row opens
// into its trials, whose curves then show too; its button keeps its curves in front.

import { Heading, compare, readSort, sortText } from "./columns.js";
import { el, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { fieldValue, metricValue } from "./format.js";
import { intervalPlot, scaleOf } from "./intervals.js";
import { trialPath } from "./router.js";
import { paintSwatch, swatch } from "./swatch.js";
import { VirtualRows } from "./virtual.js";
import { seedOf } from "./visible.js";

const ROW_PX = 30;
const [SEEDS, METRIC, DIFFERENCE, P, STANDING] = [1, 2, 3, 4, 5]; // places of the answer's cells

export class ConfigurationTable {
  /** @param parts {data, selection, colours, visible, view, shown() -> names of columns to show, fileName()} */
  constructor(parts) {
    Object.assign(this, parts);
    this.head = el("thead");
    this.table = el("table", { class: "configurations" }, el("caption", { class: "visually-hidden" }, "Configurations with their intervals"), this.head);
    this.node = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Configurations" }, this.table);
    this.rows = new VirtualRows({
      table: this.table,
      scroller: this.node,
      height: ROW_PX,
      make: (item) => (item.trial ? new TrialRow(this) : new Row(this)),
      keyOf: (item) => (item.trial ? `t${item.trial.number}` : `c${item.configuration.number}`),
    });
    this.layout = "";
    this.sorted = []; // the configurations that are shown, in their order
  }

  update(answer) {
    this.answer = answer;
    const measured = answer.configurations.some(({ seeds, trials }) => seeds.length > 0 || trials.length > 1);
    this.node.hidden = !measured || (answer.configurations.length < 2 && answer.configurations[0]?.seeds.length < 2);
    if (this.node.hidden) return;
    const { metric, configurations } = answer;
    this.values = scaleOf(configurations, (c) => [...c.values, ...ends(c.statistics[metric], "low", "high")]);
    this.differences = scaleOf(configurations, (c) => [0, ...ends(c.differences[metric], "low_adjusted", "high_adjusted")]);
    this.layOut();
    this.order();
  }

  /** Columns: {key, title, number, value(configuration) to sort by, cell(row) that draws it}. */
  columns() {
    const { answer, data } = this;
    const { columns, metric, fields } = answer;
    const beside = columns.slice(STANDING + 1).map((title, k) => ({
      key: `beside-${k}`, title, className: "medium-up", text: (c) => c.cells[STANDING + 1 + k], value: (c) => parseFloat((c.cells[STANDING + 1 + k] ?? "").replace("−", "-")),
    }));
    const shown = this.shown();
    const swept = fields.filter(({ name }) => shown.includes(name)).map(({ name, numeric }) => ({
      key: name, title: name, className: "medium-up", number: numeric, text: (c) => fieldValue(c.fields[name]), value: (c) => c.fields[name],
    }));
    const place = new Map(answer.configurations.map((c, k) => [c.number, k]));
    return [
      { key: "configuration", title: columns[0], value: (c) => c.label },
      ...swept,
      { key: "seeds", title: columns[SEEDS], className: "medium-up", number: true, text: (c) => c.cells[SEEDS], value: (c) => c.seeds.length },
      { key: metric, title: columns[METRIC], obstacle: answer.not_comparable[metric], text: (c) => c.cells[METRIC], value: (c) => data.valueOf(c, metric) },
      { key: "interval", title: "95 % interval", plot: true },
      { key: "difference", title: columns[DIFFERENCE], className: "medium-up", text: (c) => c.cells[DIFFERENCE], value: (c) => c.differences[metric]?.mean },
      { key: "to-leader", title: "to the leader", plot: true, className: "medium-up" },
      { key: "p", title: columns[P], className: "medium-up", text: (c) => c.cells[P], value: (c) => c.differences[metric]?.p_adjusted },
      { key: "standing", title: columns[STANDING], className: "standing", text: (c) => c.cells[STANDING], value: (c) => place.get(c.number) },
      ...beside,
    ];
  }

  layOut() {
    this.described = this.columns();
    const layout = JSON.stringify(this.described.map(({ key, title, obstacle }) => [key, title, obstacle]));
    if (layout === this.layout) return;
    this.layout = layout;
    this.headings = this.described.map((column) => {
      if (!column.plot) return new Heading(column, (key) => this.sortBy(key));
      return { cell: el("th", { scope: "col" }, column.title), show() {} };
    });
    this.headings.forEach(({ cell }, k) => this.described[k].className && cell.classList.add(...this.described[k].className.split(" ")));
    this.head.replaceChildren(el("tr", {}, ...this.headings.map(({ cell }) => cell)));
    this.rows.rows.clear();
    this.sort = readSort(this.view.get("sort"), this.described.map(({ key }) => key), { key: "standing", descending: false });
  }

  sortBy(key) {
    const { sort, described } = this;
    const number = key !== "standing" && typeof described.find((column) => column.key === key).value(this.answer.configurations[0]) === "number";
    this.sort = { key, descending: sort.key === key ? !sort.descending : number };
    this.view.set({ sort: sortText(this.sort) });
    this.order();
  }

  order() {
    if (this.node.hidden) return;
    const { key, descending } = this.sort;
    const { value } = this.described.find((column) => column.key === key) ?? this.described[0];
    for (const heading of this.headings) heading.show(this.sort);
    const shown = this.answer.configurations.filter(({ number }) => this.visible.configurations.has(number));
    const keyed = shown.map((configuration) => ({ configuration, by: value(configuration) }));
    this.sorted = keyed.sort((a, b) => compare(a.by, b.by, descending)).map(({ configuration }) => configuration);
    this.rows.update(this.sorted.flatMap((configuration) => [{ configuration }, ...this.trialsOf(configuration)]));
  }

  trialsOf(configuration) {
    if (!this.selection.opened.has(configuration.number)) return [];
    const trials = configuration.trials.filter((number) => this.visible.trials.has(number)).map((number) => this.data.trials.get(number));
    return trials.filter(Boolean).map((trial) => ({ configuration, trial }));
  }

  showFocus() {
    const { focused } = this.selection;
    for (const row of this.rows.rows.values()) {
      row.node.classList.toggle("focused", focused !== null && row.number === focused.configuration && (!row.trial || row.trial.number === focused.trial));
    }
  }
}

class Row {
  constructor(table) {
    this.owner = table;
    const { selection } = table;
    const stop = (act) => (event) => {
      event.stopPropagation();
      act();
    };
    this.open = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: stop(() => selection.toggleOpen(this.number)) });
    this.swatch = swatch({ colour: "", dash: [] });
    this.label = el("span", { class: "label" });
    this.pick = el(
      "button",
      { type: "button", class: "pick", "aria-pressed": "false", title: "Keep its curves in front", onclick: stop(() => selection.toggle(this.number)) },
      this.swatch,
      this.label,
    );
    this.cells = table.described.map((column) =>
      column.key === "configuration"
        ? el("th", { scope: "row" }, el("div", { class: "name-cell" }, this.open, this.pick))
        : el("td", { class: [column.plot ? "plot-cell" : column.number ? "number" : "", column.className ?? ""].join(" ").trim() || null }),
    );
    this.standing = el("span", { class: "lines" });
    this.cells[table.described.findIndex(({ key }) => key === "standing")].append(this.standing);
    this.node = el(
      "tr",
      {
        onclick: () => selection.toggle(this.number),
        onmouseenter: () => selection.focus(this.number),
        onmouseleave: () => selection.focus(null),
        onfocusin: () => selection.focus(this.number),
        onfocusout: () => selection.focus(null),
      },
      ...this.cells,
    );
  }

  update({ configuration }) {
    const { owner, cells } = this;
    const { selection, colours } = owner;
    this.number = configuration.number;
    const opened = selection.opened.has(this.number);
    setAttribute(this.node, "data-standing", configuration.standing);
    this.node.classList.toggle("picked", selection.picked.has(this.number));
    this.node.classList.toggle("dimmed", !selection.isColoured(this.number));
    setAttribute(this.open, "aria-expanded", String(opened));
    setAttribute(this.open, "aria-label", `${opened ? "Close" : "Open"} the trials of ${configuration.label}`);
    setAttribute(this.pick, "aria-pressed", String(selection.picked.has(this.number)));
    paintSwatch(this.swatch, colours.of(this.number));
    setText(this.label, configuration.label);
    setAttribute(this.label, "title", configuration.label);
    owner.described.forEach((column, k) => {
      if (column.text) setText(column.key === "standing" ? this.standing : cells[k], column.text(configuration) ?? "");
    });
    setAttribute(this.standing, "title", configuration.cells[STANDING]);
    this.drawPlots(configuration);
  }

  drawPlots(configuration) {
    const { owner, cells } = this;
    const { metric } = owner.answer;
    const mean = configuration.statistics[metric];
    const other = configuration.differences[metric];
    const drawn = JSON.stringify([mean, other, configuration.values, owner.values.domain, owner.differences.domain]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const plots = {
      interval: mean ? intervalPlot(owner.values, mean.mean, ends(mean, "low", "high"), configuration.values) : null,
      "to-leader": other ? intervalPlot(owner.differences, other.mean, ends(other, "low_adjusted", "high_adjusted"), [], 0) : null,
    };
    owner.described.forEach(({ key, plot }, k) => plot && cells[k].replaceChildren(...[plots[key]].filter(Boolean)));
  }
}

/** A trial below its configuration: seed, state, epochs, its value. */
class TrialRow {
  constructor(table) {
    this.owner = table;
    const { selection, described } = table;
    const before = described.findIndex(({ key }) => key === table.answer.metric);
    this.link = el("a", {});
    this.state = stateBadge();
    this.why = el("span", { class: "muted" });
    this.value = el("td");
    this.node = el(
      "tr",
      { class: "of-configuration", onmouseenter: () => selection.focus(this.number, this.trial.number), onmouseleave: () => selection.focus(null) },
      el("th", { scope: "row" }, this.link),
      ...described.slice(1, before).map((column) => el("td", { class: column.className ?? null })),
      this.value,
      el("td", { colspan: described.length - before - 1 }, this.state, " ", this.why),
    );
  }

  update({ configuration, trial }) {
    const { data, answer } = this.owner;
    this.number = configuration.number;
    this.trial = trial;
    this.link.href = trialPath(trial.experiment_id, trial.number);
    setText(this.link, `trial ${trial.number}, seed ${seedOf(trial, data.experiment.spec)}`);
    setText(this.value, metricValue(trial.latest?.[answer.metric], answer.metric));
    setState(this.state, trial.state);
    const said = trial.error ?? trial.reason ?? "";
    setText(this.why, [trial.epochs ? `epoch ${trial.epoch} of ${trial.epochs}` : "", said].filter(Boolean).join(" · "));
    setAttribute(this.why, "title", said || null);
  }
}

/** The interval's ends, where it has some. */
function ends(found, low, high) {
  return found && found[low] !== null ? [found[low], found[high]] : [];
}
