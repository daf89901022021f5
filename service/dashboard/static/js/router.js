// Addresses of the pages, and navigation between them without loading the document again.

/** The path under which the service is served: a proxy may put it below one of its own. */
export const ROOT = new URL("../../", import.meta.url).pathname;
export const experimentPath = (id) => `${ROOT}experiments/${id}`;
export const trialPath = (id, number) => `${experimentPath(id)}/trials/${number}`;
/** The editor: empty, or with an experiment's spec to begin with. */
export const newPath = (from = null) => `${ROOT}new${from === null ? "" : `?from=${from}`}`;
/** @param items experiments as "7", trials as "7.3" */
export const diffPath = (items) => `${ROOT}diff?of=${items.join(",")}`;

const PAGES = [
  [/^(?:experiments)?$/, () => ({ name: "list" })],
  [/^experiments\/(\d+)$/, (id) => ({ name: "experiment", id: Number(id) })],
  [/^experiments\/(\d+)\/trials\/(\d+)$/, (id, number) => ({ name: "trial", id: Number(id), number: Number(number) })],
  [/^new$/, () => ({ name: "new" })],
  [/^diff$/, () => ({ name: "diff" })],
];

export function matchRoute(pathname) {
  if (`${pathname}/`.startsWith(ROOT)) {
    const path = pathname.slice(ROOT.length).replace(/\/+$/, "");
    for (const [pattern, route] of PAGES) {
      const match = pattern.exec(path);
      if (match) return route(...match.slice(1));
    }
  }
  return { name: "unknown" };
}

/** Fix the addresses of the document, which are relative: navigation changes what they are relative to. */
export function fixAddresses() {
  for (const node of document.querySelectorAll('a[href], link[rel="icon"]')) node.href = String(node.href);
  for (const node of document.querySelectorAll("img[src]")) node.src = String(node.src);
}

let changed = () => {};

/** Go to another page of the dashboard. */
export function go(path) {
  history.pushState(null, "", path);
  changed();
}

/** Call `onChange` when the address changes; plain clicks on links of this page no longer reload it. */
export function followLinks(onChange) {
  changed = onChange;
  window.addEventListener("popstate", onChange);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (matchRoute(link.pathname).name === "unknown") return;
    event.preventDefault();
    const path = link.pathname + link.search;
    if (path !== location.pathname + location.search) history.pushState(null, "", path);
    onChange();
    document.getElementById("main").focus({ preventScroll: true });
  });
}
