// Numbers, times and parameters as people read them. Pure functions.

import { metricInfo } from "./words.js";

/** A float as the API writes it: non-finite ones come as strings, absent ones as null. */
export function parseFloatJson(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" ? Number(value) : NaN; // Number("Infinity") and Number("NaN") read back as such
}

/** A metric's value for tables and tooltips; undefined and null are a dash, NaN is "NaN". */
export function metricValue(value, metric) {
  if (value === null || value === undefined) return "–";
  const number = parseFloatJson(value);
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const size = Math.abs(number);
  const { decimals } = metricInfo(metric);
  if (decimals !== null && size < 1e4 && (size >= 0.5 * 10 ** -decimals || size === 0)) return minus(number.toFixed(decimals));
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return minus(number.toExponential(2));
  if (size >= 1e3) return minus(number.toFixed(0));
  return minus(number.toPrecision(4));
}

/** A tick of an axis, short: 1500 is "1.5k". */
export function tick(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return minus(`${trim(value / 1e6)}M`);
  if (size >= 1e4) return minus(`${trim(value / 1e3)}k`);
  if (size !== 0 && size < 1e-3) return minus(value.toExponential(0));
  return minus(trim(value));
}

const trim = (value) => String(Number(value.toPrecision(6)));
const minus = (text) => text.replace(/^-/, "−");
const two = (value) => String(value).padStart(2, "0");

/** Seconds as "48s", "3m 05s", "2h 10m", "4d 3h". */
export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total}s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return `${minutes}m ${two(total % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}

/** Time from start to end, or to now while it lasts; a dash before the start. */
export function elapsed(startedAt, endedAt, now = Date.now()) {
  if (!startedAt) return "–";
  return duration(((endedAt ? Date.parse(endedAt) : now) - Date.parse(startedAt)) / 1000);
}

/** "just now", "5m ago", "3d ago". */
export function ago(timestamp, now = Date.now()) {
  const seconds = (now - Date.parse(timestamp)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))}m ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)}h ago`;
  return `${Math.round(seconds / 86400)}d ago`;
}

/** Date and time in the reader's zone. */
export const absolute = (timestamp) =>
  new Date(timestamp).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A trial's parameters with their full paths, for hovering. */
export function trialDetails(params) {
  return Object.entries(params)
    .map(([path, value]) => `${path}=${paramValue(value)}`)
    .join("\n");
}

/** A value of a swept field; nothing where a configuration has none. */
export const fieldValue = (value) => (value === undefined || value === null ? "" : paramValue(value));

function paramValue(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
