// What can be unfolded under an experiment: its spec, its data and its logs.

import { getData, getLogs } from "./api.js";
import { el, setText } from "./dom.js";

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
