// What can be unfolded under an experiment: its spec, its data and its logs.

import { getData, getHistory, getLogs } from "./api.js";
import { el, setState, setText, stateBadge } from "./dom.js";
import { absolute, ago } from "./format.js";

const LONGEST_LOG = 400_000; // characters shown; the end matters

/** The spec as it was submitted, or with every default filled in. */
export function specPanel(experiment) {
  const submitted = experiment.spec_text ?? "";
  const filled = JSON.stringify(experiment.spec ?? {}, null, 2);
  const text = el("pre", { tabindex: 0 }, submitted || filled);
  const pick = el("select", { "aria-label": "Form of the spec" }, option("submitted", "as submitted"), option("filled", "with defaults"));
  pick.addEventListener("change", () => setText(text, pick.value === "filled" ? filled : submitted));
  return panel("Spec", submitted ? pick : null, text);
}

/** What was read of the data sets, read when it is unfolded. */
export function dataPanel(id, signal) {
  const text = el("pre", { tabindex: 0 });

  async function read() {
    try {
      const { items } = await getData(id, signal);
      setText(text, items.map((facts) => (facts.lines ?? []).join("\n")).join("\n\n") || "No trial has trained for an epoch yet.");
    } catch (problem) {
      if (problem.name !== "AbortError") setText(text, problem.message);
    }
  }

  const node = panel("Data", null, text);
  node.addEventListener("toggle", () => {
    if (node.open) read();
  });
  return node;
}

/** Every change of state with when, who and why, read when it is unfolded. */
export function historyPanel(id, signal) {
  const list = el("ol", { class: "history" });

  async function read() {
    try {
      const { items } = await getHistory(id, signal);
      list.replaceChildren(...items.reverse().map(transition));
    } catch (problem) {
      if (problem.name !== "AbortError") list.replaceChildren(el("li", {}, problem.message));
    }
  }

  const node = panel("History", null, list);
  node.addEventListener("toggle", () => {
    if (node.open) read();
  });
  return node;
}

function transition({ at, target, by, reason, attempt }) {
  const badge = stateBadge();
  setState(badge, target);
  const time = el("time", { datetime: at, title: absolute(at) }, ago(at));
  return el("li", {}, time, badge, el("span", {}, `by ${by}`), el("span", { class: "muted" }, [attempt ? `attempt ${attempt}` : "", reason ?? ""].filter(Boolean).join(" · ")));
}

/** The experiment's log, read when it is unfolded and on request. */
export function logsPanel(id, signal) {
  const text = el("pre", { class: "log", tabindex: 0 });
  const refresh = el("button", { type: "button", onclick: () => read() }, "Refresh");

  async function read() {
    refresh.disabled = true;
    const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
    try {
      const log = await getLogs(id, signal);
      const cut = log.length > LONGEST_LOG;
      setText(text, (cut ? "… earlier lines left out\n" + log.slice(log.indexOf("\n", log.length - LONGEST_LOG) + 1) : log) || "Nothing logged yet.");
      if (atEnd) text.scrollTop = text.scrollHeight;
    } catch (problem) {
      if (problem.name !== "AbortError") setText(text, problem.message);
    } finally {
      refresh.disabled = false;
    }
  }

  const node = panel("Logs", refresh, text);
  node.addEventListener("toggle", () => {
    if (node.open) read();
  });
  return node;
}

const option = (value, text) => el("option", { value }, text);

function panel(title, control, content) {
  return el(
    "details",
    { class: "card panel" },
    el("summary", {}, title),
    control ? el("div", { class: "panel-tools" }, control) : null,
    content,
  );
}
