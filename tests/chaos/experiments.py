"""The experiments of the chaos test: what is asked of each, and the proper end it must come to."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from adadim.client import Client, ClientError
from tests.chaos.parts import Lab

SPEC = """
name: chaos-{name}
model: {{backbone: conv_small, width: 4, projector: {{layers: 2, hidden: 16, out: 16}}}}
training: {{epochs: {epochs}, warmup_epochs: 1, optimizer: adamw, lr: 1e-3, log_every_steps: 2}}
data: {data}
retries: 100
search:
  algorithm: grid
  space:
    objective.weighting: {{choice: [{{policy: fixed, alpha: 0.5}}, {{policy: adaptive}}]}}
"""
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Planned:
    """One experiment and what a user does to it on the way."""

    name: str
    end: str = "succeeded"
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(state to wait for, action then)."""
    data: str = "{dataset: digits}"
    id: int = 0


def planned(count: int) -> list[Planned]:
    """So many experiments: most just run; some are paused, cancelled, retried, deleted, or cannot succeed."""
    special = [
        Planned("held", end="paused", steps=[("running", "pause")]),
        Planned("paused", steps=[("running", "pause"), ("paused", "resume")]),
        Planned("cancelled", end="cancelled", steps=[("running", "cancel")]),
        Planned("hopeless", end="failed", data="{dataset: npz, path: /nowhere/at-all.npz}"),
        Planned("retried", steps=[("running", "cancel"), ("cancelled", "retry")]),
        Planned("deleted", end="gone", steps=[("running", "delete")]),
    ]
    chosen = special[: max(1, count // 2)]
    return [Planned(f"plain-{number}") for number in range(count - len(chosen))] + chosen


class User:
    """Does what users do, through whichever replica answers, and tries again until it is done."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._next = 0

    def ask(self, request: Callable[[Client], Any], *, patience_s: float = 300.0) -> Any:
        """The answer; None if there is no such experiment."""
        deadline = time.monotonic() + patience_s
        while True:
            number, self._next = self._next % 2, self._next + 1
            try:
                with self._lab.client(number) as client:
                    return request(client)
            except (ClientError, OSError) as error:
                status = getattr(error, "status", None)
                if status == 404:
                    return None
                if (status is not None and status < 500 and status != 429) or time.monotonic() > deadline:
                    raise
            time.sleep(0.3)

    def submit(self, experiment: Planned, epochs: int) -> None:
        spec = SPEC.format(name=experiment.name, epochs=epochs, data=experiment.data)
        # The answer may be lost with its replica: the key makes the repetition harmless.
        answer = self.ask(lambda client: client.submit(spec, idempotency_key=experiment.name))
        experiment.id = answer["id"]

    def state(self, experiment: Planned) -> str:
        found = self.ask(lambda client: client.experiment(experiment.id))
        return "gone" if found is None else str(found["state"])

    def advance(self, experiment: Planned) -> bool:
        """Do the experiment's next step if it is time. Returns whether it came to its end."""
        state = self.state(experiment)
        if not experiment.steps:
            return state in (*ENDED, "gone", experiment.end)
        wanted, action = experiment.steps[0]
        if state in ENDED and wanted not in ENDED:
            raise AssertionError(f"{experiment.name} {state} before it could {action}")
        if state == wanted:
            self._act(action, experiment.id)
            experiment.steps.pop(0)
        return False

    def _act(self, action: str, experiment_id: int) -> None:
        if action == "delete":
            self.ask(lambda client: client.delete(experiment_id, confirm=True))
        else:
            self.ask(lambda client: client.act(action, experiment_id))
