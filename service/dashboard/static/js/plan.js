// What a spec would run, beside the editor: how many trials, what varies, how long it may take; or what is wrong with it.

import { el } from "./dom.js";
import { written } from "./fields.js";
import { duration } from "./format.js";

const VALUES_SHOWN = 8;
const SEED = "training.seed";

export class PlanPanel {
  /** @param onProblem(problem) when somebody goes to one */
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.body = el("div", { class: "plan-body" });
    this.node = el("section", { class: "card plan", "aria-label": "Plan", "aria-live": "polite" }, el("h2", {}, "Plan"), this.body);
  }

  showWaiting() {
    this.node.setAttribute("aria-busy", "true");
  }

  showPlan(plan) {
    this.node.removeAttribute("aria-busy");
    const varied = variation(plan.trials);
    const later = chosenLater(plan);
    const parts = [el("p", { class: "plan-summary" }, plan.summary), this.time(plan)];
    if (varied.length) parts.push(el("h3", {}, "What varies"), fields(varied.map(({ path, values }) => [path, listed(values)])));
    if (later.length) parts.push(el("h3", {}, "Chosen while it runs"), fields(later));
    if (parts.length === 2) parts.push(el("p", { class: "muted" }, "One configuration, as specified."));
    this.body.replaceChildren(...parts);
  }

  time({ estimate, spec }) {
    if (estimate === null) return el("p", { class: "muted" }, "How long it takes is not known: nothing like it has trained here.");
    const early = spec.search !== null && spec.search.scheduler.name !== "none";
    const { seconds, seconds_per_trial: each, at_once: atOnce, network, trials } = estimate;
    const together = atOnce >= 1.5 ? `, ${Math.round(atOnce)} at once` : "";
    return el(
      "p",
      {},
      el("strong", {}, `${early ? "At most about" : "About"} ${duration(seconds)}`),
      ` on this service: ${duration(each)} a trial${together}, as ${trials} earlier trial${trials === 1 ? "" : "s"} of ${network} took.`,
    );
  }

  showProblem(problem) {
    this.node.removeAttribute("aria-busy");
    const found = problem.errors?.length ? problem.errors : [{ pointer: "", detail: problem.detail ?? problem.message }];
    this.body.replaceChildren(
      el("p", { class: "failure" }, problem.status === 422 ? "The spec is not valid yet:" : problem.title),
      el(
        "ul",
        { class: "problems" },
        ...found.map((one) => el("li", {}, el("button", { type: "button", class: "quiet", onclick: () => this.onProblem(one) }, one.pointer || "the spec"), " ", one.detail)),
      ),
    );
  }
}

/** Every path that trials differ in, with its values in order. */
function variation(trials) {
  const found = new Map();
  for (const { params } of trials) {
    for (const [path, value] of Object.entries(params)) {
      if (!found.has(path)) found.set(path, new Map());
      found.get(path).set(JSON.stringify(value), value);
    }
  }
  const last = (path) => Number(path === SEED); // seeds repeat what is compared
  return [...found]
    .map(([path, values]) => ({ path, values: [...values.values()] }))
    .filter(({ path, values }) => values.length > 1 && isPlanned(path, trials))
    .sort((a, b) => last(a.path) - last(b.path) || a.path.localeCompare(b.path));
}

function listed(values) {
  const numbers = values.every((value) => typeof value === "number");
  if (numbers && values.length > VALUES_SHOWN) {
    const sorted = [...values].sort((a, b) => a - b);
    return `${values.length} values from ${short(sorted[0])} to ${short(sorted.at(-1))}`;
  }
  const shown = (numbers ? [...values].sort((a, b) => a - b) : values).slice(0, VALUES_SHOWN).map(short).join(", ");
  return values.length > VALUES_SHOWN ? `${shown} and ${values.length - VALUES_SHOWN} more` : shown;
}

function short(value) {
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value).map(([key, one]) => (key === "policy" || key === "name" ? short(one) : `${key} ${short(one)}`)).join(" ");
}

const isPlanned = (path, trials) => trials.every(({ params }) => path in params);

/** Where values are chosen while it runs, the space is all that is known. */
function chosenLater({ spec, trials }) {
  const open = Object.entries(spec.search?.space ?? {}).filter(([path]) => !isPlanned(path, trials));
  return open.map(([path, space]) => [path, written(space).replace(/^{(.*)}$/, "$1")]);
}

const fields = (pairs) => el("dl", { class: "varied" }, ...pairs.flatMap(([path, text]) => [el("dt", {}, path), el("dd", {}, text)]));
