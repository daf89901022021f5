// The page that writes a new experiment, or one like another: the editor, and the plan of what it would run. Nothing is
// submitted before its plan was shown.

import { getExamples, getExperiment, getSchema, planSpec, submitSpec } from "./api.js";
import { el, setText } from "./dom.js";
import { SpecEditor } from "./editor.js";
import { problemNotice } from "./notice.js";
import { PlanPanel } from "./plan.js";
import { experimentPath, go } from "./router.js";

const TYPING_MS = 400;
const SMALLEST = "name: my-experiment  # all else has a default\n";

export function mountNew(root, { session, page }) {
  const view = new NewPage(root, session, page);
  view.load();
  return () => view.dispose();
}

class NewPage {
  constructor(root, session, page) {
    Object.assign(this, { root, session, page });
    this.closed = new AbortController();
    const from = new URLSearchParams(location.search).get("from");
    this.from = /^\d+$/.test(from ?? "") ? Number(from) : null;
    this.planned = null; // the text whose plan is shown
    this.begun = ""; // the text that somebody began with
    this.key = null; // of the submission of one text
    page.setTitle(this.from === null ? "New experiment" : `Clone of ${this.from}`);
  }

  dispose() {
    this.closed.abort();
    clearTimeout(this.typing);
    this.editor?.dispose();
  }

  async load() {
    try {
      const [schema, examples, source] = await Promise.all([
        getSchema(),
        getExamples(),
        this.from === null ? null : getExperiment(this.from, this.closed.signal),
      ]);
      this.build(schema, examples.items, source);
    } catch (problem) {
      if (problem.name === "AbortError" || problem.status === 401) return;
      this.root.replaceChildren(problemNotice(problem, problem.status === 404 ? null : () => this.load(), true));
    }
  }

  build(schema, examples, source) {
    this.editor = new SpecEditor({ schema, onChange: () => this.changed(), onSubmit: () => this.submit() });
    this.plan = new PlanPanel((problem) => this.editor.goTo(problem));
    this.button = el("button", { type: "button", class: "primary", disabled: true, onclick: () => this.submit() }, "Submit");
    this.failure = el("p", { class: "failure", role: "alert" });
    this.root.replaceChildren(
      el(
        "div",
        { class: "list-head" },
        el("h1", {}, source ? `Clone of ${source.name} #${source.id}` : "New experiment"),
        source ? null : this.exampleSelect(examples),
      ),
      el(
        "div",
        { class: "writing" },
        el("div", {}, el("div", { class: "card editor" }, this.editor.node), el("p", { id: "editor-help", class: "muted" }, "Ctrl-Space completes, Escape then Tab leaves the editor, Ctrl-Enter submits. The pointer over a key tells what it means.")),
        el("div", { class: "writing-side" }, this.plan.node, this.button, this.failure),
      ),
    );
    this.begin(source ? textOf(source) : SMALLEST);
    this.editor.focus();
    window.addEventListener("beforeunload", (event) => this.isEdited() && event.preventDefault(), { signal: this.closed.signal });
  }

  exampleSelect(examples) {
    const select = el(
      "select",
      { "aria-label": "Start from an example" },
      el("option", { value: "" }, "Start from an example…"),
      ...examples.map(({ name, about }, index) => el("option", { value: String(index) }, about ? `${name}: ${about}` : name)),
    );
    select.addEventListener("change", () => {
      const chosen = examples[Number(select.value)];
      if (select.value !== "" && (!this.isEdited() || window.confirm("Put the example in place of what is written?"))) this.begin(chosen.text);
      select.value = "";
    });
    return select;
  }

  begin(text) {
    this.begun = text;
    this.editor.text = text;
  }

  isEdited() {
    return this.editor.text !== this.begun;
  }

  changed() {
    this.button.disabled = true;
    this.planned = this.wanted = null;
    clearTimeout(this.typing);
    this.plan.showWaiting();
    this.typing = setTimeout(() => this.check(), TYPING_MS);
  }

  /** Ask the service what it would run: it knows all that a spec must keep. */
  async check() {
    const { text } = this.editor;
    this.asking?.abort();
    this.asking = new AbortController();
    const signal = AbortSignal.any([this.asking.signal, this.closed.signal]);
    setText(this.failure, "");
    try {
      const plan = await planSpec(text, signal);
      this.editor.showProblems([]);
      this.plan.showPlan(plan);
      this.planned = text;
      this.button.disabled = false;
      setText(this.button, plan.trials.length === 1 ? "Submit 1 trial" : `Submit ${plan.trials.length} trials`);
      if (this.wanted === text) this.submit();
    } catch (problem) {
      if (problem.name === "AbortError" || problem.status === 401) return;
      this.editor.showProblems(problem.status === 422 ? (problem.errors.length ? problem.errors : [problem]) : []);
      this.plan.showProblem(problem);
    }
  }

  async submit() {
    const { text } = this.editor;
    this.wanted = text; // by the keys before it is planned: sent as soon as it is
    if (this.button.disabled || this.planned !== text) return;
    this.button.disabled = true;
    if (this.key?.text !== text) this.key = { text, value: newKey() };
    try {
      const { id } = await submitSpec(text, this.key.value);
      this.begun = text;
      go(experimentPath(id));
    } catch (problem) {
      if (problem.status === 401) return;
      setText(this.failure, problem.message);
      this.button.disabled = false;
    }
  }
}

/** As random as can be where pages without TLS have no crypto.randomUUID. */
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The spec as it was submitted; one that a program wrote in lines people can read; one of a preset, which may have other
 * values by now, with every field. */
function textOf({ spec, spec_text: text }) {
  if (!text || spec.from_preset) return JSON.stringify(spec, null, 2);
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // YAML
  }
}
