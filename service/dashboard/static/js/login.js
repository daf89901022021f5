// Signing in: a token, pasted once or brought by a link, becomes an HttpOnly session cookie.
// A link signs nobody in by itself: anyone may send one, and what is done then is done as its sender.

import { signIn } from "./api.js";
import { el } from "./dom.js";

export function mountLogin(root, onSignedIn, refusal = "") {
  const token = el("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-help",
  });
  const failure = el("p", { class: "failure", role: "alert" }, refusal);
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    failure.textContent = "";
    button.disabled = true;
    try {
      await signIn(token.value.trim());
      onSignedIn();
    } catch (problem) {
      failure.textContent = problem.detail || problem.title;
      button.disabled = false;
      token.select();
    }
  }

  root.replaceChildren(
    el(
      "form",
      { class: "login", onsubmit: submit },
      el("h1", {}, "Sign in"),
      el("label", { for: "token" }, "Access token"),
      token,
      failure,
      button,
      el(
        "p",
        { id: "token-help", class: "help" },
        "Yours comes from an admin (",
        el("code", {}, "adadim token create"),
        "). On your own machine ",
        el("code", {}, "adadim serve"),
        " says where the token lies, and prints a link with it.",
      ),
    ),
  );
  token.focus();
}

/** Ask before the token of a link signs in. `onDone` is called either way. */
export function mountLinkQuestion(root, token, { name, role }, onDone) {
  const failure = el("p", { class: "failure", role: "alert" });
  const yes = el("button", { type: "submit", class: "primary" }, `Sign in as ${name}`);

  async function submit(event) {
    event.preventDefault();
    yes.disabled = true;
    try {
      await signIn(token);
      onDone();
    } catch (problem) {
      failure.textContent = problem.detail || problem.title;
      yes.disabled = false;
    }
  }

  root.replaceChildren(
    el(
      "form",
      { class: "login", onsubmit: submit },
      el("h1", {}, `Sign in as ${name} to this service?`),
      el(
        "p",
        {},
        `The link you followed holds the token of ${name} (${role}). If you did not expect that, do not sign in: what you do then is done as ${name}.`,
      ),
      failure,
      yes,
      el("button", { type: "button", onclick: onDone }, "Do not sign in"),
    ),
  );
  yes.focus();
}
