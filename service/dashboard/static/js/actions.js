// The buttons of an experiment's page. The service says which there are, and what can be done now.

import { actOn, deleteExperiment } from "./api.js";
import { el, setText } from "./dom.js";
import { ExtendForm } from "./extend.js";
import { go, newPath } from "./router.js";
import { actions } from "./words.js";

export class ActionButtons {
  /** @param mayChange, mayClone: functions of the experiment, @param onExperiment(changed) */
  constructor({ mayChange, mayClone, onExperiment }) {
    Object.assign(this, { mayChange, mayClone, onExperiment });
    this.told = null;
    this.message = el("p", { class: "action-message", role: "status" });
    this.buttons = actions().map((action) => {
      const button = el("button", { type: "button", class: action.asks ? "danger" : null, hidden: true }, action.title);
      button.addEventListener("click", () => this.run(action));
      return { action, button };
    });
    this.extend = new ExtendForm((changed) => {
      this.tell(changed.message, false, changed.state);
      onExperiment(changed);
    });
    this.node = el("span", { class: "actions" }, ...this.buttons.map(({ button }) => button), this.extend.node);
  }

  update(experiment) {
    this.experiment = experiment;
    if (this.told !== null && experiment.state !== this.told) this.tell("", false); // it has gone on since
    for (const { action, button } of this.buttons) {
      const may = action.owner_only ? this.mayChange(experiment) : this.mayClone(experiment);
      const fits = !action.takes_numbers || ExtendForm.fits(experiment);
      button.hidden = !may || !fits || !experiment.actions.includes(action.name);
    }
  }

  async run(action) {
    const { id, name } = this.experiment;
    if (action.takes_numbers) {
      this.extend.open(this.experiment);
      return;
    }
    if (action.name === "clone") {
      go(newPath(id));
      return;
    }
    if (action.asks && !window.confirm(action.asks.replace("{name}", () => name))) return;
    this.tell("", false);
    for (const { button } of this.buttons) button.disabled = true;
    try {
      const changed = await (action.name === "delete" ? deleteExperiment(id) : actOn(id, action.name));
      this.tell(changed.message, false, changed.state);
      this.onExperiment(changed);
    } catch (problem) {
      this.tell(problem.message, true);
    } finally {
      for (const { button } of this.buttons) button.disabled = false;
    }
  }

  /** @param state in which the message holds; null: until the next */
  tell(text, failed, state = null) {
    this.told = state;
    this.message.classList.toggle("failure", failed);
    setText(this.message, text);
  }
}
