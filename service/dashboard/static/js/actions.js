// The buttons of an experiment's page: pause, resume, retry, clone, cancel, delete. The service decides what is allowed.

import { actOn, cloneExperiment, deleteExperiment } from "./api.js";
import { el, setText } from "./dom.js";
import { experimentPath } from "./router.js";

const MOVING = ["queued", "starting", "running"];
const ENDED = ["succeeded", "failed", "cancelled"];

const ACTIONS = [
  { name: "pause", title: "Pause", in: MOVING },
  { name: "resume", title: "Resume", in: ["pausing", "paused"] },
  { name: "retry", title: "Retry", in: ["failed", "cancelled"] },
  { name: "clone", title: "Clone", in: [...MOVING, "pausing", "paused", "cancelling", ...ENDED], anyones: true },
  {
    name: "cancel",
    title: "Cancel",
    in: [...MOVING, "pausing", "paused"],
    danger: true,
    ask: (name) => `Cancel “${name}”? Its running trials stop; what they have reported stays.`,
  },
  {
    name: "delete",
    title: "Delete",
    in: [...MOVING, "pausing", "paused", "cancelling", ...ENDED],
    danger: true,
    ask: (name) => `Delete “${name}” for good? Its points, logs, checkpoints, encoders and results go with it.`,
  },
];

export class ActionButtons {
  /** @param mayChange, mayClone: functions of the experiment, @param onExperiment(changed) */
  constructor({ mayChange, mayClone, onExperiment }) {
    Object.assign(this, { mayChange, mayClone, onExperiment });
    this.told = null;
    this.message = el("p", { class: "action-message", role: "status" });
    this.buttons = ACTIONS.map((action) => {
      const button = el("button", { type: "button", class: action.danger ? "danger" : null, hidden: true }, action.title);
      button.addEventListener("click", () => this.run(action));
      return { action, button };
    });
    this.node = el("span", { class: "actions" }, ...this.buttons.map(({ button }) => button));
  }

  update(experiment) {
    this.experiment = experiment;
    if (this.told !== null && experiment.state !== this.told) this.tell("", false); // it has gone on since
    for (const { action, button } of this.buttons) {
      const may = action.anyones ? this.mayClone(experiment) : this.mayChange(experiment);
      button.hidden = !may || !action.in.includes(experiment.state);
    }
  }

  async run(action) {
    const { id, name } = this.experiment;
    if (action.ask && !window.confirm(action.ask(name))) return;
    this.tell("", false);
    for (const { button } of this.buttons) button.disabled = true;
    try {
      if (action.name === "clone") {
        const copy = await cloneExperiment(id);
        location.assign(experimentPath(copy.id));
        return;
      }
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
