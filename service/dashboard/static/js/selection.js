// Which trials stand out, and how each is drawn. A trial's colour and dash depend on its number alone, so they never
// change while a sweep runs. Few trials are all in colour; of many, the picked ones or else the best, the rest is dim.

import { parseFloatJson } from "./format.js";

const ALL_IN_COLOUR = 12;
const BEST_IN_COLOUR = 8;
const COLOURS = 8;
const DASHES = [[], [6, 3], [2, 2.5], [9, 3, 2, 3]];

/** Index of a trial's colour, and its dash pattern in CSS pixels. */
export const trialColour = (number) => number % COLOURS;
export const trialDash = (number) => DASHES[Math.floor(number / COLOURS) % DASHES.length];

export class Selection {
  constructor(onChange, onFocus) {
    this.onChange = onChange;
    this.onFocus = onFocus;
    this.picked = new Set();
    this.coloured = new Set();
    this.focused = null; // the trial under the pointer, in a plot or in the table
    this.total = 0;
  }

  /** Choose the trials in colour from what is known of them. */
  update(trials, metric, mode) {
    this.total = trials.length;
    const sign = mode === "min" ? 1 : -1;
    const score = (trial) => {
      const value = parseFloatJson(trial.latest?.[metric]);
      return Number.isFinite(value) ? sign * value : Infinity;
    };
    let chosen = trials;
    if (this.picked.size) chosen = trials.filter((trial) => this.picked.has(trial.number));
    else if (trials.length > ALL_IN_COLOUR) {
      chosen = [...trials].sort((a, b) => score(a) - score(b) || a.number - b.number).slice(0, BEST_IN_COLOUR);
    }
    this.coloured = new Set(chosen.map((trial) => trial.number));
  }

  isColoured(number) {
    return this.coloured.has(number);
  }

  toggle(number) {
    if (!this.picked.delete(number)) this.picked.add(number);
    this.onChange();
  }

  clear() {
    this.picked.clear();
    this.onChange();
  }

  focus(number) {
    if (this.focused === number) return;
    this.focused = number;
    this.onFocus();
  }

  /** Order to draw in: dim ones first. */
  drawingOrder(numbers) {
    return [...numbers].sort((a, b) => this.isColoured(a) - this.isColoured(b) || b - a);
  }
}
