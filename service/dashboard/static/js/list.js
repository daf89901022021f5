// The list of experiments: searched, filtered and sorted by the service, read again every few seconds while it is
// looked at. Owns what is asked for, which is in the address; rows are list_table.js's.

import { getExperiments } from "./api.js";
import { el, setText } from "./dom.js";
import { ExperimentTable } from "./list_table.js";
import { notice, problemNotice } from "./notice.js";
import { diffPath, newPath } from "./router.js";
import { experimentStates } from "./words.js";

const REFRESH_MS = 4000;
const TYPING_MS = 250;
const PAGE_SIZE = 50;
const LARGEST_PAGE = 200; // what the service gives at once
const NEWEST_FIRST = "-id";

export function mountList(root, { session, page }) {
  const list = new ExperimentList(root, session, page);
  return () => list.dispose();
}

class ExperimentList {
  constructor(root, session, page) {
    Object.assign(this, { root, page });
    this.closed = new AbortController();
    this.wanted = readAddress();
    this.shown = PAGE_SIZE; // rows asked for
    this.turn = 0; // of several answers on their way the last one counts
    this.table = new ExperimentTable({
      onSort: (sort) => this.want({ sort }),
      onLabel: (label) => this.want({ label: [...new Set([...this.wanted.label, label])] }),
      onOwner: (owner) => this.want({ owner }),
      onPick: () => this.showPicked(),
    });
    this.built = false;
    this.more = el("button", { type: "button", hidden: true, onclick: () => this.readMore() }, "Older experiments");
    this.none = el("p", { class: "table-empty card", hidden: true, role: "status" }, "No experiment is like that.");
    this.compare = el("a", { class: "button", hidden: true }, "Compare");
    this.chips = el("span", { class: "chips" });
    const maySubmit = session.role !== "viewer";
    this.newLink = maySubmit ? el("a", { class: "button primary", href: newPath() }, "New experiment") : null;
    this.timer = setInterval(() => this.tick(), REFRESH_MS);
    document.addEventListener("visibilitychange", () => this.tick(), { signal: this.closed.signal });
    page.setTitle("Experiments");
    this.refresh();
  }

  dispose() {
    this.closed.abort();
    clearInterval(this.timer);
    clearTimeout(this.typing);
  }

  tick() {
    if (!document.hidden) this.refresh();
  }

  /** Change what is listed. */
  want(change) {
    clearTimeout(this.typing);
    this.wanted = { ...this.wanted, q: this.search.value.trim() || null, ...change };
    this.shown = PAGE_SIZE;
    writeAddress(this.wanted);
    this.showWanted();
    this.refresh();
  }

  async readMore() {
    this.shown += PAGE_SIZE;
    this.more.disabled = true;
    await this.refresh();
    this.more.disabled = false;
  }

  /** Read as many rows as are shown. */
  async refresh() {
    const mine = ++this.turn;
    const items = [];
    let cursor = null;
    try {
      do {
        const size = Math.min(this.shown - items.length, LARGEST_PAGE);
        const answer = await getExperiments(this.wanted, size, cursor, this.closed.signal);
        items.push(...answer.items);
        cursor = answer.next_cursor;
      } while (cursor !== null && items.length < this.shown);
      if (mine !== this.turn) return;
      this.show(items, cursor !== null);
      this.page.setLive(null);
    } catch (problem) {
      if (mine === this.turn) this.failed(problem);
    }
  }

  failed(problem) {
    if (problem.name === "AbortError" || problem.status === 401) return;
    if (this.built) this.page.setLive("lost", "reconnecting");
    else this.root.replaceChildren(problemNotice(problem, () => this.refresh()));
  }

  show(items, more) {
    if (!items.length && !isFiltered(this.wanted)) {
      this.root.replaceChildren(emptyNotice(this.newLink));
      this.built = false;
      return;
    }
    if (!this.built) this.build();
    this.table.show(items);
    this.table.node.hidden = items.length === 0;
    this.none.hidden = items.length > 0;
    this.more.hidden = !more;
    setText(this.more, this.wanted.sort === NEWEST_FIRST ? "Older experiments" : "More experiments");
  }

  build() {
    this.built = true;
    this.root.replaceChildren(
      el("div", { class: "list-head" }, el("h1", {}, "Experiments"), this.compare, this.newLink),
      this.toolbar(),
      this.table.node,
      this.none,
      this.more,
    );
    this.showWanted();
  }

  toolbar() {
    this.search = el("input", { type: "search", placeholder: "Search name, label, owner, #number", "aria-label": "Search", maxlength: 100 });
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.want({}), TYPING_MS);
    });
    this.state = el(
      "select",
      { "aria-label": "State" },
      el("option", { value: "" }, "any state"),
      ...experimentStates().map((state) => el("option", { value: state }, state)),
    );
    this.state.addEventListener("change", () => this.want({ state: this.state.value || null }));
    return el("div", { class: "toolbar", role: "search" }, this.search, this.state, this.chips);
  }

  showWanted() {
    const { q, state, owner, label, sort } = this.wanted;
    if (document.activeElement !== this.search) this.search.value = q ?? "";
    this.state.value = state ?? "";
    const chips = label.map((one) => chip(one, () => this.want({ label: label.filter((other) => other !== one) })));
    if (owner !== null) chips.push(chip(`owner: ${owner}`, () => this.want({ owner: null })));
    this.chips.replaceChildren(...chips);
    this.table.showSort(sort);
  }

  showPicked() {
    const picked = [...this.table.picked].sort((a, b) => a - b);
    this.compare.hidden = picked.length < 2;
    this.compare.href = diffPath(picked);
    setText(this.compare, `Compare ${picked.length}`);
  }
}

function chip(text, onRemove) {
  return el("span", { class: "chip" }, text, el("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: onRemove }, "×"));
}

const isFiltered = ({ q, state, owner, label }) => q !== null || state !== null || owner !== null || label.length > 0;

function readAddress() {
  const query = new URLSearchParams(location.search);
  const { q = null, state = null, owner = null, sort = NEWEST_FIRST } = Object.fromEntries(query);
  return { q, state, owner, label: query.getAll("label"), sort };
}

function writeAddress({ q, state, owner, label, sort }) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ q, state, owner })) if (value !== null) query.set(name, value);
  for (const one of label) query.append("label", one);
  if (sort !== NEWEST_FIRST) query.set("sort", sort);
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}

function emptyNotice(newLink) {
  return notice("No experiments yet", "Write the first one here, or submit it from a terminal; it appears by itself.", {
    children: [newLink, el("pre", { class: "command" }, "adadim submit examples/digits-sweep.yaml")].filter(Boolean),
  });
}
