// What the service says of metrics, states and actions: loaded once after signing in. No list of them is written here.

import { getWords } from "./api.js";

let words = { metrics: new Map(), states: new Map(), trialStates: new Map(), actions: [] };

const byName = (items) => new Map(items.map((item) => [item.name, item]));

/** Call before anything is shown. */
export async function loadWords() {
  const served = await getWords();
  words = {
    metrics: byName(served.metrics),
    states: byName(served.experiment_states),
    trialStates: byName(served.trial_states),
    actions: served.actions,
  };
}

/** Title, description, unit, decimals, limits and direction of any metric; a name that is not known is its own title. */
export const metricInfo = (name) =>
  words.metrics.get(name) ?? { name, title: name, description: "", unit: "", decimals: null, limits: null };

export const metricNames = () => [...words.metrics.keys()];
/** Metrics that are known in the order in which people look at them, then those that only some experiment has. */
export function inOrder(names) {
  const known = metricNames();
  const place = (name) => (known.includes(name) ? known.indexOf(name) : known.length);
  return [...names].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
}
/** Those whose curves and columns are shown at first. */
export const chartMetrics = () => [...words.metrics.values()].filter(({ chart }) => chart).map(({ name }) => name);

export const actions = () => words.actions;

/** @param state of an experiment or a trial; the names they share mean the same in both */
export const stateInfo = (state) =>
  words.states.get(state) ?? words.trialStates.get(state) ?? { tone: "idle", meaning: "", ended: false };

export const isEnded = (state) => words.states.get(state)?.ended ?? false;
export const isTrialEnded = (state) => words.trialStates.get(state)?.ended ?? false;
/** Place of a trial's state in the order in which people look at them. */
export const trialStateOrder = (state) => [...words.trialStates.keys()].indexOf(state);

export const experimentStates = () => [...words.states.keys()];

/** Trials by state in words, where they do not all do the same: "1 succeeded, 2 failed". Those to come are left out. */
export function trialCounts(counts) {
  const told = Object.keys(counts).filter((state) => stateInfo(state).tone !== "open");
  if (told.length < 2 && told.every((state) => stateInfo(state).tone !== "bad")) return "";
  return told.sort((a, b) => trialStateOrder(a) - trialStateOrder(b)).map((state) => `${counts[state]} ${state}`).join(", ");
}
