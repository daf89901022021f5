// The list of experiments: one table, newest first, refreshed every few seconds while the page is looked at.

import { getExperiments } from "./api.js";
import { el, progressBar, setAttribute, setState, setText, stateBadge } from "./dom.js";
import { absolute, ago, elapsed, metricValue } from "./format.js";
import { isEnded, metricInfo } from "./words.js";
import { notice, problemNotice } from "./notice.js";
import { experimentPath } from "./router.js";

const REFRESH_MS = 4000;
const PAGE_SIZE = 50;
const LARGEST_PAGE = 200; // what the service gives at once

export function mountList(root, page) {
  const list = new ExperimentList(root, page);
  return () => list.dispose();
}

class ExperimentList {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.rows = new Map(); // experiment id -> row
    this.oldestCursor = undefined; // undefined: no page read yet; null: all read
    this.closed = new AbortController();
    this.body = el("tbody");
    this.more = el("button", { type: "button", hidden: true, onclick: () => this.readOlder() }, "Older experiments");
    this.table = null;
    this.timer = setInterval(() => this.tick(), REFRESH_MS);
    document.addEventListener("visibilitychange", () => this.tick(), { signal: this.closed.signal });
    page.setTitle("Experiments");
    this.refresh();
  }

  dispose() {
    this.closed.abort();
    clearInterval(this.timer);
  }

  tick() {
    if (!document.hidden) this.refresh();
  }

  async refresh() {
    if (this.reading) return;
    this.reading = true;
    try {
      const size = Math.min(Math.max(PAGE_SIZE, this.rows.size), LARGEST_PAGE);
      const first = await getExperiments(size, null, this.closed.signal);
      const continues = first.items.some(({ id }) => this.rows.has(id));
      if (!continues) this.oldestCursor = first.next_cursor; // the first look, or one after very many submissions
      this.forgetDeleted(first.items, continues && first.next_cursor !== null);
      this.show(first.items);
      this.page.setLive(null);
    } catch (problem) {
      this.failed(problem);
    } finally {
      this.reading = false;
    }
  }

  async readOlder() {
    this.more.disabled = true;
    try {
      const older = await getExperiments(PAGE_SIZE, this.oldestCursor, this.closed.signal);
      this.oldestCursor = older.next_cursor;
      this.show(older.items);
    } catch (problem) {
      this.failed(problem);
    } finally {
      this.more.disabled = false;
    }
  }

  failed(problem) {
    if (problem.name === "AbortError" || problem.status === 401) return;
    if (this.table) this.page.setLive("lost", "reconnecting");
    else this.root.replaceChildren(problemNotice(problem, () => this.refresh()));
  }

  /** What the newest page no longer has was deleted; unless `more` follows and it is older than the page's oldest. */
  forgetDeleted(newest, more) {
    const present = new Set(newest.map(({ id }) => id));
    const oldest = more ? Math.min(...present) : 0;
    for (const [id, row] of this.rows) {
      if (id < oldest || present.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
    }
  }

  show(experiments) {
    if (!experiments.length && !this.rows.size) {
      this.root.replaceChildren(emptyNotice());
      this.table = null;
      return;
    }
    if (!this.table) {
      this.table = tableOf(this.body);
      this.root.replaceChildren(el("h1", { class: "page-title" }, "Experiments"), this.table, this.more);
    }
    for (const experiment of experiments) this.showOne(experiment);
    const newestFirst = [...this.rows.keys()].sort((a, b) => b - a);
    newestFirst.forEach((id, index) => {
      const { node } = this.rows.get(id);
      if (this.body.children[index] !== node) this.body.insertBefore(node, this.body.children[index] ?? null);
    });
    this.more.hidden = !this.oldestCursor;
  }

  showOne(experiment) {
    if (!this.rows.has(experiment.id)) this.rows.set(experiment.id, new Row(experiment));
    this.rows.get(experiment.id).update(experiment);
  }
}

class Row {
  constructor({ id, name }) {
    this.state = stateBadge();
    this.waiting = el("span", { class: "muted waiting" });
    this.progress = progressBar("Trials done");
    this.best = el("span", { class: "number" });
    this.bestMetric = el("span", { class: "muted" });
    this.owner = el("td", { class: "wide-only" });
    this.created = el("time");
    this.duration = el("td", { class: "number medium-up" });
    this.node = el(
      "tr",
      {},
      el("td", { class: "number muted medium-up" }, String(id)),
      el("th", { scope: "row" }, el("a", { class: "row-link", href: experimentPath(id) }, name)),
      el("td", {}, this.state, this.waiting),
      el("td", {}, this.progress.node),
      el("td", { class: "medium-up" }, this.best, " ", this.bestMetric),
      this.owner,
      el("td", { class: "medium-up" }, this.created),
      this.duration,
    );
  }

  update(experiment) {
    setState(this.state, experiment.state);
    setAttribute(this.state, "title", experiment.state_reason);
    const { waiting } = experiment;
    setText(this.waiting, waiting ? `${waiting.position}.: ${waiting.reason}` : "");
    this.progress.set(experiment.trials_done, experiment.trial_count);
    const hasBest = experiment.best_value !== null;
    setText(this.best, hasBest ? metricValue(experiment.best_value, experiment.metric) : "–");
    setText(this.bestMetric, hasBest ? metricInfo(experiment.metric).title : "");
    setText(this.owner, experiment.owner);
    setText(this.created, ago(experiment.created_at));
    setAttribute(this.created, "datetime", experiment.created_at);
    setAttribute(this.created, "title", absolute(experiment.created_at));
    const running = experiment.started_at && !isEnded(experiment.state) ? null : experiment.ended_at;
    setText(this.duration, elapsed(experiment.started_at, running));
  }
}

function tableOf(body) {
  const head = (text, cls) => el("th", { scope: "col", class: cls }, text);
  return el(
    "div",
    { class: "card scroll" },
    el(
      "table",
      { class: "experiments" },
      el("caption", { class: "visually-hidden" }, "Experiments, newest first"),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head("ID", "number medium-up"),
          head("Name"),
          head("State"),
          head("Trials"),
          head("Best", "medium-up"),
          head("Owner", "wide-only"),
          head("Created", "medium-up"),
          head("Duration", "number medium-up"),
        ),
      ),
      body,
    ),
  );
}

function emptyNotice() {
  return notice("No experiments yet", "Submit the first sweep from a terminal; it appears here by itself.", {
    children: [
      el("pre", { class: "command" }, "adadim submit examples/digits-sweep.yaml"),
      el("p", { class: "muted" }, "It trains four loss weightings on scikit-learn's digits."),
    ],
  });
}
