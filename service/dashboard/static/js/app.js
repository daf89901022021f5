// Starts the dashboard: signs in, picks the view for the address, swaps views.
// Owns the top bar. Views own everything inside <main>.

import { getOwner, getSession, onUnauthorized, signOut } from "./api.js";
import { el } from "./dom.js";
import { mountList } from "./list.js";
import { mountLinkQuestion, mountLogin } from "./login.js";
import { notice, problemNotice } from "./notice.js";
import { fixAddresses, followLinks, matchRoute } from "./router.js";
import { loadWords } from "./words.js";

const main = document.getElementById("main");
const crumb = document.getElementById("crumb");
const account = document.getElementById("account");
const live = document.getElementById("live");

const page = {
  setTitle(name) {
    document.title = name ? `${name} · AdaDim` : "AdaDim";
  },
  setLive(status, text) {
    live.hidden = !status;
    live.dataset.status = status ?? "";
    if (live.textContent !== text) live.textContent = text ?? "";
  },
};

const PAGES = {
  list: mountList,
  experiment: later(async () => (await import("./experiment.js")).mountExperiment),
  trial: later(async () => (await import("./trial.js")).mountTrial),
  new: later(async () => (await import("./new.js")).mountNew),
  diff: later(async () => (await import("./diff.js")).mountDiff),
};

let session = null;
let refusal = ""; // why the token in the address did not serve
let unmount = () => {};
let turn = 0; // of those who wait for an answer before they show something the last one does

function show(mount) {
  unmount();
  main.replaceChildren(el("p", { class: "loading" }, "Loading…"));
  page.setTitle(null);
  page.setLive(null);
  unmount = mount(main) ?? (() => {});
}

function showRoute() {
  const route = matchRoute(location.pathname);
  crumb.hidden = route.name === "list";
  window.scrollTo(0, 0);
  const mount = PAGES[route.name];
  show((root) => mount(root, { ...route, session, page }));
}

function showNothing() {
  show((root) => root.replaceChildren(notice("No such page", "There is nothing at this address.", { home: true })));
  page.setTitle("No such page");
}

/** A page whose files are read when somebody goes there. */
function later(load) {
  return (root, options) => {
    let left = false;
    let unmountPage = () => {};
    load().then(
      (mount) => {
        if (!left) unmountPage = mount(root, options) ?? (() => {});
      },
      () => {
        if (!left) root.replaceChildren(notice("The page could not be loaded", "", { retry: () => location.reload() }));
      },
    );
    return () => {
      left = true;
      unmountPage();
    };
  };
}

function showAccount() {
  account.hidden = session === null;
  if (session === null) return;
  const button = el("button", { class: "quiet", type: "button", onclick: () => signOut().then(showLogin) }, "Sign out");
  const who = session.name === session.role ? session.name : `${session.name} (${session.role})`;
  account.replaceChildren(el("span", { class: "account-name" }, who), button);
}

function showLogin() {
  session = null;
  crumb.hidden = true;
  showAccount();
  show((root) => mountLogin(root, start, refusal));
  refusal = "";
}

/** The token that a link brought, if one did. It leaves the address bar and the history whether it is good or not. */
function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

async function start() {
  const mine = ++turn;
  let found;
  try {
    [found] = await Promise.all([getSession(), loadWords()]);
  } catch (problem) {
    if (mine === turn && problem.status !== 401) show((root) => root.replaceChildren(problemNotice(problem, start)));
    return;
  }
  if (mine !== turn) return;
  session = found;
  showAccount();
  showRoute();
}

async function enter() {
  const token = takeTokenFromAddress();
  if (matchRoute(location.pathname).name === "unknown") return showNothing();
  if (token === null) return start();
  const mine = ++turn;
  show(() => {});
  try {
    const owner = await getOwner(token);
    if (mine === turn) show((root) => mountLinkQuestion(root, token, owner, start));
  } catch (problem) {
    // An older session may still be good; without one the form appears and tells.
    refusal = problem.detail || problem.title;
    if (mine === turn) start();
  }
}

onUnauthorized(showLogin);
fixAddresses();
followLinks(() => (session === null ? start() : showRoute())); // from a page that needs no session
// A link with a token, pasted where the dashboard is open already, loads nothing anew.
window.addEventListener("hashchange", () => location.hash.includes("token=") && enter());
enter();
