// Two or more experiments or trials beside each other: the fields of their specs that differ, and what came of them.

import { findTrial, getExperiment, getTrial } from "./api.js";
import { el, setState, stateBadge } from "./dom.js";
import { differing, flatten, written } from "./fields.js";
import { elapsed, metricValue } from "./format.js";
import { notice, problemNotice } from "./notice.js";
import { experimentPath, trialPath } from "./router.js";
import { inOrder, metricInfo } from "./words.js";

const MOST = 12; // columns
const ITEM = /^(\d{1,15})(?:\.(\d{1,6}))?$/;

export function mountDiff(root, { page }) {
  const closed = new AbortController();
  page.setTitle("Comparison");
  load(root, closed.signal);
  return () => closed.abort();
}

async function load(root, signal) {
  const asked = (new URLSearchParams(location.search).get("of") ?? "").split(",").map((text) => ITEM.exec(text));
  if (asked.length < 2 || asked.includes(null)) {
    root.replaceChildren(notice("Nothing to compare", "Choose two or more experiments in the list, or trials in the table of an experiment.", { home: true }));
    return;
  }
  try {
    const items = await Promise.all(asked.slice(0, MOST).map(([, id, number]) => (number === undefined ? experimentItem(id, signal) : trialItem(id, Number(number), signal))));
    root.replaceChildren(...pageOf(items, asked.length));
  } catch (problem) {
    if (problem.name === "AbortError" || problem.status === 401) return;
    root.replaceChildren(problemNotice(problem, problem.status === 404 ? null : () => load(root, signal), true));
  }
}

async function experimentItem(id, signal) {
  const experiment = await getExperiment(id, signal);
  const best = experiment.best_value === null ? {} : { [experiment.metric]: experiment.best_value };
  return { ...experiment, title: experiment.name, about: `#${id}`, path: experimentPath(id), results: best, resultOf: "best trial" };
}

async function trialItem(id, number, signal) {
  const [experiment, found] = await Promise.all([getExperiment(id, signal), findTrial(id, number, signal)]);
  if (found === null) throw { status: 404, title: "No such trial", detail: `Experiment ${id} has no trial ${number}.` };
  const trial = await getTrial(found.id, signal);
  return { ...trial, title: trial.label || `trial ${number}`, about: `${experiment.name} #${id}, trial ${number}`, path: trialPath(id, number), results: trial.latest, resultOf: "last" };
}

function pageOf(items, asked) {
  const rows = differing(items.map(({ spec }) => flatten(spec)));
  const same = new Set(items.flatMap(({ spec }) => [...flatten(spec).keys()])).size - rows.length;
  const head = el("tr", {}, el("td", {}), ...items.map((item) => el("th", { scope: "col" }, el("a", { href: item.path }, item.title), el("div", { class: "muted" }, item.about))));
  const body = rows.map(({ path, values }) => row(el("code", {}, ...breakable(path)), values.map(written)));
  const metrics = inOrder(new Set(items.flatMap(({ results }) => Object.keys(results))));
  const outcome = [
    row("State", items.map(({ state }) => badge(state))),
    row("Duration", items.map(({ started_at: began, ended_at: ended }) => elapsed(began, ended))),
    ...metrics.map((name) => row(el("span", { title: metricInfo(name).description || null }, metricInfo(name).title), items.map(({ results }) => metricValue(results[name], name)))),
  ];
  const left = asked > MOST ? el("p", { class: "muted" }, `The first ${MOST} of ${asked}.`) : null;
  return [
    el("h1", { class: "page-title" }, `${items.length} side by side`),
    ...(left ? [left] : []),
    el(
      "div",
      { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Comparison" },
      el(
        "table",
        { class: "plain diff" },
        el("caption", { class: "visually-hidden" }, "Fields that differ, and results"),
        el("thead", {}, head),
        group("Fields that differ", items.length, body.length ? body : [el("tr", {}, el("td", { class: "muted", colspan: items.length + 1 }, "None: their specs are the same."))]),
        group(`Results (${[...new Set(items.map(({ resultOf }) => resultOf))].join(", ")} values)`, items.length, outcome),
      ),
    ),
    el("p", { class: "muted" }, `${same} field${same === 1 ? " is" : "s are"} the same in all.`),
  ];
}

const group = (title, columns, rows) => el("tbody", {}, el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: columns + 1 }, title)), ...rows);
const row = (name, cells) => el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell)));

/** A dotted path that may go on in the next line after a dot. */
const breakable = (path) => path.split(".").flatMap((part, index) => (index ? [".", el("wbr"), part] : [part]));

function badge(state) {
  const node = stateBadge();
  setState(node, state);
  return node;
}
