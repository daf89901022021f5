// The sign-in form: a token pasted once becomes an HttpOnly session cookie.

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
        " says where the token lies, and the link it prints signs you in at once.",
      ),
    ),
  );
  token.focus();
}
