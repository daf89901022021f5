// The axes of parallel coordinates: a swept field or a metric each, with the place of every value on it.

import { fieldValue, metricValue, parseFloatJson, tick } from "./format.js";
import { rangeOfDots } from "./ranges.js";
import { metricInfo } from "./words.js";

const MOST_FIELDS = 8;
const LOG_FROM = 30; // ratio of the largest to the smallest number
const EDGE = 0.02; // of an axis: a stroke that ends so near its end has no bound there

/** Axes of an experiment: fields as they are swept, then the metric and what explains it. */
export function axesOf(data) {
  const { answer } = data;
  const fields = answer.fields.slice(0, MOST_FIELDS).map((field) => fieldAxis(field, answer.configurations));
  const metrics = [...new Set(["h_r", "i_rz", answer.metric])].map((metric) => metricAxis(metric, data));
  return [...fields, ...metrics].filter((axis) => axis !== null);
}

function fieldAxis({ name, numeric }, configurations) {
  const value = (configuration) => configuration.fields[name];
  const present = configurations.map(value).filter((one) => one !== undefined);
  if (numeric) return numericAxis({ name, title: name, value, tell: fieldValue }, present);
  const kinds = [...new Set(present)].sort((a, b) => String(a).localeCompare(String(b)));
  const share = (one) => (kinds.length > 1 ? kinds.indexOf(one) / (kinds.length - 1) : 0.5);
  return { name, title: name, value, tell: String, share, kinds, ticks: kinds.map((kind) => [share(kind), String(kind)]) };
}

function metricAxis(metric, data) {
  const value = (configuration) => {
    const found = parseFloatJson(data.valueOf(configuration, metric));
    return Number.isFinite(found) ? found : undefined;
  };
  const present = data.answer.configurations.map(value).filter((one) => one !== undefined);
  if (!present.length) return null;
  return { ...numericAxis({ name: metric, title: metricInfo(metric).title, value, tell: (one) => metricValue(one, metric) }, present), isMetric: true };
}

/** One that is far beyond the others (a diverged one) stands at the end of the axis and squeezes nothing. */
function numericAxis(axis, present) {
  const { low, high } = rangeOfDots(present);
  const isLog = low > 0 && high / low > LOG_FROM;
  const scaled = isLog ? Math.log : (one) => one;
  const span = scaled(high) - scaled(low);
  const share = (one) => (span > 0 ? Math.min(1, Math.max(0, (scaled(one) - scaled(low)) / span)) : 0.5);
  const valueAt = (at) => (isLog ? Math.exp(scaled(low) + at * span) : low + at * span);
  const distinct = [...new Set(present)].sort((a, b) => a - b);
  const marks = distinct.length <= 6 ? distinct : [0, 0.25, 0.5, 0.75, 1].map(valueAt);
  return { ...axis, share, valueAt, ticks: marks.map((one) => [share(one), tick(Number(one.toPrecision(3)))]) };
}

/** The terms of a filter that hold between two places of an axis, 0 to 1. */
export function termsBetween(axis, from, to, termValue) {
  const [low, high] = from < to ? [from, to] : [to, from];
  if (axis.kinds) {
    const chosen = axis.kinds.filter((kind) => axis.share(kind) >= low - EDGE && axis.share(kind) <= high + EDGE);
    return chosen.length ? [`${axis.name}=${chosen.map(termValue).join(",")}`] : [];
  }
  const number = (at) => String(Number(axis.valueAt(at).toPrecision(4)));
  return [...(low > EDGE ? [`${axis.name}>=${number(low)}`] : []), ...(high < 1 - EDGE ? [`${axis.name}<=${number(high)}`] : [])];
}

/** Where a filter's terms hold on an axis, as [low, high] from 0 to 1; null: it says nothing of it. */
export function brushOf(axis, terms) {
  const own = terms.filter(({ field }) => field === axis.name);
  if (!own.length) return null;
  let [low, high] = [0, 1];
  for (const { operator, values } of own) {
    if (axis.kinds || operator === "=") {
      const shares = (axis.kinds ?? values.map(Number)).filter((one) => values.includes(String(one))).map((one) => axis.share(one));
      if (operator === "=" && shares.length) [low, high] = [Math.min(...shares) - EDGE, Math.max(...shares) + EDGE];
    } else if (operator.startsWith(">")) low = Math.max(low, axis.share(Number(values[0])));
    else if (operator.startsWith("<")) high = Math.min(high, axis.share(Number(values[0])));
  }
  return [low, high];
}
