// The service's HTTP API as functions. Owns request errors: every failure is an ApiError, every 401 is announced.

import { ROOT } from "./router.js";

const API = `${ROOT}api/v1`;
let announceUnauthorized = () => {};

/** What went wrong with a request: status 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, title, detail, errors = []) {
    super(detail ? `${title}: ${detail}` : title);
    Object.assign(this, { status, title, detail, errors });
  }
}

export function onUnauthorized(callback) {
  announceUnauthorized = callback;
}

export const getSession = () => request("GET", "/session");
/** Whose a token is, without signing in with it. */
export const getOwner = (token) => request("GET", "/session", { token, quiet: true });
export const signIn = (token) => request("POST", "/session", { body: { token }, quiet: true });
export const signOut = () => request("DELETE", "/session", { quiet: true }).catch(() => {});

export const getWords = () => request("GET", "/words", { quiet: true });
/** @param wanted {q, state, owner, label, sort}: what is listed, and in which order */
export const getExperiments = (wanted, limit, cursor, signal) =>
  request("GET", `/experiments?${query({ ...wanted, limit, cursor })}`, { signal });
export const getExperiment = (id, signal) => request("GET", `/experiments/${id}`, { signal });
export const getAnswer = (id, signal) => request("GET", `/experiments/${id}/answer`, { signal });
export const actOn = (id, action) => request("POST", `/experiments/${id}/${action}`);
export const deleteExperiment = (id) => request("DELETE", `/experiments/${id}?confirm=true`);
/** @param trials numbers as "0-3,7", null: all; @param range {by, start, end}: only the points within; null: all */
export const getMetrics = (id, metrics, maxPoints, trials, signal, range = null) =>
  request("GET", `/experiments/${id}/metrics?${query({ metrics: metrics.join(","), max_points: maxPoints, trials, ...range })}`, { signal });
/** Mean and band of every configuration. @param range {by} and perhaps start and end */
export const getCurves = (id, metrics, points, signal, range) =>
  request("GET", `/experiments/${id}/curves?${query({ metrics: metrics.join(","), points, ...range })}`, { signal });
export const getImportance = (id, signal) => request("GET", `/experiments/${id}/importance`, { signal });
export const getHistory = (id, signal) => request("GET", `/experiments/${id}/history?limit=1000`, { signal });
/** @param more {seeds} and perhaps {trials}: how many from now on */
export const extendExperiment = (id, more) => request("POST", `/experiments/${id}/extend`, { body: more });
export const getLogs = (id, signal) => request("GET", `/experiments/${id}/logs`, { signal, text: true });
/** One trial by its number, without its configuration; null if there is none. */
export async function findTrial(id, number, signal) {
  const after = number > 0 ? number - 1 : null;
  const { items } = await request("GET", `/experiments/${id}/trials?${query({ limit: 1, cursor: after })}`, { signal });
  return items[0]?.number === number ? items[0] : null;
}
export const getTrial = (trialId, signal) => request("GET", `/trials/${trialId}`, { signal });
export const getTrialMetrics = (trialId, metrics, points, signal) =>
  request("GET", `/trials/${trialId}/metrics?${query({ metrics: metrics.join(","), max_points: points })}`, { signal });
export const getTrialLogs = (trialId, signal) => request("GET", `/trials/${trialId}/logs`, { signal, text: true });
export const getAttempts = (id, signal) => request("GET", `/experiments/${id}/attempts?limit=1000`, { signal });
export const encoderUrl = (trialId) => `${API}/trials/${trialId}/encoder`;
export const getSchema = () => request("GET", "/spec/schema");
export const getExamples = () => request("GET", "/spec/examples");
/** What a spec would run. Nothing is submitted. */
export const planSpec = (spec, signal) =>
  request("POST", "/experiments?dry_run=true", { body: spec, type: "application/yaml", signal });
/** @param key makes the same submission harmless when it is sent twice */
export const submitSpec = (spec, key) =>
  request("POST", "/experiments", { body: spec, type: "application/yaml", headers: { "Idempotency-Key": key } });
export const getData = (id, signal) => request("GET", `/experiments/${id}/data`, { signal });
export const eventsUrl = (id, after, metrics) =>
  `${API}/experiments/${id}/events?${query({ after, metrics: metrics.join(",") })}`;

/** All trials of an experiment, over as many pages as there are. */
export async function getTrials(id, signal) {
  const trials = [];
  let cursor = null;
  do {
    const page = await request("GET", `/experiments/${id}/trials?${query({ limit: 1000, cursor })}`, { signal });
    trials.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return trials;
}

function query(values) {
  const present = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  // A list is a parameter that occurs several times.
  return new URLSearchParams(present.flatMap(([name, value]) => [value].flat().map((one) => [name, one]))).toString();
}

async function request(method, path, { body, type = "application/json", headers = {}, signal, token, text = false, quiet = false } = {}) {
  const options = { method, signal, headers: { Accept: text ? "text/plain" : "application/json", ...headers } };
  if (token !== undefined) options.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.headers["Content-Type"] = type;
    options.body = type === "application/json" ? JSON.stringify(body) : body;
  }
  let response;
  try {
    response = await fetch(API + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "No answer from the service", "It may be stopped or out of reach.");
  }
  if (!response.ok) {
    const error = await problemOf(response);
    if (response.status === 401 && !quiet) announceUnauthorized();
    throw error;
  }
  if (response.status === 204) return null;
  return text ? response.text() : response.json();
}

async function problemOf(response) {
  try {
    const problem = await response.json();
    return new ApiError(response.status, problem.title ?? response.statusText, problem.detail, problem.errors ?? []);
  } catch {
    return new ApiError(response.status, `The service answered ${response.status}`, response.statusText);
  }
}
