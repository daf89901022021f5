// Full-width messages: errors with a way to try again, empty states.

import { el } from "./dom.js";
import { ROOT } from "./router.js";

/** A message. `retry` adds a button, `home` a link to the list. */
export function notice(title, detail, { retry = null, home = false, children = [] } = {}) {
  return el(
    "section",
    { class: "notice" },
    el("h1", {}, title),
    detail ? el("p", {}, detail) : null,
    ...children,
    retry || home
      ? el(
          "p",
          { class: "actions" },
          retry ? el("button", { type: "button", onclick: retry }, "Try again") : null,
          home ? el("a", { href: ROOT }, "All experiments") : null,
        )
      : null,
  );
}

/** An ApiError as a message. */
export function problemNotice(problem, retry, home = false) {
  const fields = (problem.errors ?? []).map((error) =>
    el("li", {}, el("code", {}, error.pointer ?? ""), " ", error.detail ?? ""),
  );
  const node = notice(problem.title ?? "Something went wrong", problem.detail ?? String(problem.message ?? ""), {
    retry,
    home,
    children: fields.length ? [el("ul", {}, ...fields)] : [],
  });
  node.setAttribute("role", "alert");
  return node;
}
