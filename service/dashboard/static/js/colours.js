// Which colour stands for which configuration: one each, or one for each value of a chosen field, so that the same
// weighting has the same colour wherever it is. Beyond eight, dashes tell lines of one colour apart; many numbers get a
// ramp. A colour depends on what a configuration is, never on its rank, so that it stays while a sweep runs.

import { theme } from "./theme.js";

const DASHES = [[], [6, 3], [2, 2.5], [9, 3, 2, 3]];
const MOST_VALUES = 8; // of a numeric field, before it gets a ramp
const LOG_FROM = 30; // ratio of the largest to the smallest number from which the ramp is logarithmic

/** Colour and dash number k of the palette. */
export const paletteLook = (k) => ({
  colour: theme.trials[k % theme.trials.length],
  dash: DASHES[Math.floor(k / theme.trials.length) % DASHES.length],
});

export class Colours {
  constructor() {
    this.by = "";
    this.looks = new Map();
    this.legend = [];
  }

  /**
   * @param configurations [{number, fields}], @param fields [{name, numeric}] what they differ in
   * @param by a field's name, or "" for a colour each
   */
  update(configurations, fields, by) {
    const field = fields.find(({ name }) => name === by);
    this.by = field ? by : "";
    this.legend = [];
    if (!field) {
      this.look = ({ number }) => paletteLook(number);
    } else {
      const values = configurations.map((c) => c.fields[by]).filter((value) => value !== undefined);
      const distinct = [...new Set(values)].sort((a, b) => (field.numeric ? a - b : String(a).localeCompare(String(b))));
      this.look = field.numeric && distinct.length > MOST_VALUES ? this.ramp(distinct, by) : this.palette(distinct, by);
    }
    this.looks = new Map(configurations.map((c) => [c.number, this.look(c)]));
  }

  /** {colour, dash} of a configuration; muted where it has none, as a trial whose values are not chosen yet. */
  of(number) {
    return this.looks.get(number) ?? { colour: theme.muted, dash: [] };
  }

  palette(distinct, by) {
    const places = new Map(distinct.map((value, k) => [value, k]));
    this.legend = distinct.map((value, k) => ({ text: String(value), ...paletteLook(k) }));
    return ({ fields }) => (by in fields ? paletteLook(places.get(fields[by])) : { colour: theme.muted, dash: [] });
  }

  ramp(distinct, by) {
    const [low, high] = [distinct[0], distinct.at(-1)];
    const scale = low > 0 && high / low > LOG_FROM ? Math.log : (value) => value;
    const share = (value) => (scale(value) - scale(low)) / (scale(high) - scale(low));
    const middle = distinct[Math.floor(distinct.length / 2)];
    this.legend = [low, middle, high].map((value) => ({ text: String(Number(value.toPrecision(3))), colour: onRamp(share(value)), dash: [] }));
    return ({ fields }) => ({ colour: by in fields ? onRamp(share(fields[by])) : theme.muted, dash: [] });
  }
}

/** A colour of the ramp, from 0 to 1. */
function onRamp(share) {
  const stops = theme.ramp;
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(at), stops.length - 2);
  const mixed = [0, 1, 2].map((channel) => Math.round(stops[k][channel] + (at - k) * (stops[k + 1][channel] - stops[k][channel])));
  return `rgb(${mixed.join(" ")})`;
}
