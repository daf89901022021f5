// The controls over the curves: filter, colours, means or single trials, x axis; and the legend of a chosen field.

import { X_AXES } from "./charts.js";
import { el, setAttribute, setText } from "./dom.js";
import { swatch } from "./swatch.js";

const TYPING_MS = 200;

export class Controls {
  /** @param view ViewState, @param set(changes) to it, @param resetZoom() */
  constructor(view, set, resetZoom) {
    Object.assign(this, { view, set });
    this.filter = el("input", {
      type: "search", class: "filter", placeholder: "Filter: weighting=adaptive lr>0.002", "aria-label": "Filter", spellcheck: "false", autocomplete: "off", list: "filter-fields", value: view.get("q"),
    });
    this.filter.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => set({ q: this.filter.value.trim() }), TYPING_MS);
    });
    this.fields = el("datalist", { id: "filter-fields" });
    this.found = el("span", { class: "muted filter-found", role: "status" });
    this.colour = el("select", { "aria-label": "Colour by" });
    this.colour.addEventListener("change", () => set({ color: this.colour.value }));
    this.reset = el("button", { type: "button", class: "quiet", hidden: true, onclick: resetZoom }, "Reset zoom");
    this.shows = segments("Curves show", "show", { mean: "mean and band", trials: "single trials" }, (name) => set({ show: name }));
    const axes = Object.fromEntries(Object.entries(X_AXES).map(([name, { title }]) => [name, title]));
    this.axis = segments("x axis", "x-axis", axes, (name) => set({ x: name === "epoch" ? "" : name }));
    this.legend = el("ul", { class: "legend", "aria-label": "Colours", hidden: true });
    this.node = el(
      "div",
      { class: "curve-controls" },
      el(
        "div",
        { class: "section-head" },
        el("h2", {}, "Curves"),
        el("span", { class: "muted wide-only" }, "drag to zoom, double-click to reset"),
        this.reset,
        el("span", { class: "head-tools" }, el("label", { class: "colour-by" }, "Colour by ", this.colour), this.shows.node, this.axis.node),
      ),
      el("div", { class: "filter-row" }, this.filter, this.fields, this.found),
      this.legend,
    );
  }

  update({ data, visible, colours, single, seeds, axis, zoomed }) {
    const { answer } = data;
    if (document.activeElement !== this.filter) this.filter.value = this.view.get("q");
    setAttribute(this.filter, "aria-invalid", visible.problem ? "true" : null);
    this.found.classList.toggle("failure", Boolean(visible.problem));
    const [shown, all] = [visible.configurations.size, answer.configurations.length];
    setText(this.found, visible.problem || (visible.terms.length ? `${shown} of ${all} configurations, ${visible.trials.size} of ${data.trials.size} trials` : ""));
    const names = answer.fields.map(({ name }) => name);
    choices(this.fields, visible.fields().map((name) => [name, ""]));
    choices(this.colour, [["", "configuration"], ...names.map((name) => [name, name])]);
    this.colour.value = colours.by;
    this.colour.parentElement.hidden = names.length === 0;
    this.shows.node.hidden = seeds < 2;
    this.shows.show(single ? "trials" : "mean");
    this.axis.show(axis);
    this.filter.parentElement.hidden = data.trials.size < 2;
    this.showZoom(zoomed);
    this.showLegend(colours);
  }

  showZoom(zoomed) {
    this.reset.hidden = !zoomed;
  }

  showLegend({ by, legend }) {
    this.legend.hidden = legend.length === 0;
    const told = by + JSON.stringify(legend);
    if (told === this.told) return;
    this.told = told;
    this.legend.replaceChildren(el("li", { class: "muted" }, by), ...legend.map((look) => el("li", {}, swatch(look), look.text)));
  }
}

/** Options of a list, only where they differ. */
function choices(list, options) {
  if ([...list.children].map(({ value }) => value).join("\n") === options.map(([value]) => value).join("\n")) return;
  list.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
}

/** A row of alternatives. */
function segments(title, name, alternatives, onChoose) {
  const inputs = Object.entries(alternatives).map(([value]) => el("input", { type: "radio", name, value, onchange: () => onChoose(value) }));
  const labels = Object.values(alternatives).map((text, k) => el("label", {}, inputs[k], el("span", {}, text)));
  return {
    node: el("fieldset", { class: "segments" }, el("legend", { class: "visually-hidden" }, title), ...labels),
    show(value) {
      for (const input of inputs) input.checked = input.value === value;
    },
  };
}
