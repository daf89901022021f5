// Addresses of the two pages, and navigation between them without loading the document again.

/** The path under which the service is served: a proxy may put it below one of its own. */
export const ROOT = new URL("../../", import.meta.url).pathname;
export const experimentPath = (id) => `${ROOT}experiments/${id}`;
export const trialPath = (id, number) => `${experimentPath(id)}/trials/${number}`;

export function matchRoute(pathname) {
  if (!`${pathname}/`.startsWith(ROOT)) return { name: "unknown" };
  const path = pathname.slice(ROOT.length).replace(/\/+$/, "");
  if (path === "" || path === "experiments") return { name: "list" };
  const match = /^experiments\/(\d+)$/.exec(path);
  return match ? { name: "experiment", id: Number(match[1]) } : { name: "unknown" };
}

/** Fix the addresses of the document, which are relative: navigation changes what they are relative to. */
export function fixAddresses() {
  for (const node of document.querySelectorAll('a[href], link[rel="icon"]')) node.href = String(node.href);
  for (const node of document.querySelectorAll("img[src]")) node.src = String(node.src);
}

/** Call `onChange` when the address changes; plain clicks on links of this page no longer reload it. */
export function followLinks(onChange) {
  window.addEventListener("popstate", onChange);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest("a[href]");
    if (!link || link.target || link.origin !== location.origin) return;
    if (matchRoute(link.pathname).name === "unknown") return;
    event.preventDefault();
    if (link.pathname !== location.pathname) history.pushState(null, "", link.pathname + link.search);
    onChange();
    document.getElementById("main").focus({ preventScroll: true });
  });
}
