"""What runs while links are cut and processes killed, and what must hold of it afterwards."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checks
from tests.chaos.experiments import ENDED, Planned
from tests.deploy.lab import Lab, User

SWEEP = """
name: deploy-{name}
model: {{backbone: conv_small, width: 4, projector: {{layers: 2, hidden: 16, out: 16}}}}
training: {{epochs: {epochs}, warmup_epochs: 1, optimizer: adamw, lr: 1e-3, log_every_steps: 2}}
retries: 100
resources: {{workers: {workers}}}
search:
  algorithm: grid
  space:
    objective.weighting: {{choice: [{{policy: fixed, alpha: 0.5}}, {{policy: adaptive}}]}}
"""


@dataclass
class Work:
    """Keeps something running: another sweep is submitted whenever the last one has ended."""

    user: User
    epochs: int
    done: list[Planned] = field(default_factory=list)
    _workers: dict[int, int] = field(default_factory=dict)

    def submit(self, *, workers: int = 1) -> Planned:
        experiment = Planned(f"{'pair' if workers > 1 else 'sweep'}-{len(self.done) + 1}")
        spec = self._spec(experiment.name, workers)
        answer = self.user.ask(lambda client: client.submit(spec, idempotency_key=experiment.name))
        experiment.id = answer["id"]
        self.done.append(experiment)
        self._workers[experiment.id] = workers
        return experiment

    def keep_busy(self) -> None:
        """Submit a sweep if nothing would be hit otherwise."""
        if all(self.state(experiment) in ENDED for experiment in self.done):
            self.submit()

    def state(self, experiment: Planned) -> str:
        return str(self.user.ask(lambda client: client.experiment(experiment.id))["state"])

    def trains(self, experiment: Planned) -> bool:
        """Whether points of it come in."""
        series = self.user.ask(lambda client: client.metrics(experiment.id, ["loss"]))["series"]
        return any(part["steps"] for part in series)

    def problems(self, lab: Lab) -> tuple[list[str], int]:
        """What is wrong with any of them, and how many points there are in all."""
        expected = {
            workers: checks.reference(self._spec("reference", workers))
            for workers in sorted(set(self._workers.values()))
        }
        place = _Place(lab.storage)
        key = lab.sql("SELECT key FROM installation")
        problems, points = [], 0
        for experiment in self.done:
            due = expected[self._workers[experiment.id]]
            state = self.state(experiment)
            if state != "succeeded":
                problems.append(f"{experiment.name} is {state}")
                continue
            problems += checks.series_problems(self.user, experiment, due)  # type: ignore[arg-type]
            problems += checks.checkpoint_problems(place, key, self.user, experiment, self.epochs, due)  # type: ignore[arg-type]
            points += sum(len(steps) for trial in due for steps in trial.values())
        return problems, points

    def _spec(self, name: str, workers: int) -> str:
        return SWEEP.format(name=name, epochs=self.epochs, workers=workers)


@dataclass(frozen=True)
class _Place:
    """What the chaos test's checks ask of a lab."""

    storage: Path


def exports(user: User, experiments: list[Planned]) -> dict[int, bytes]:
    """Every point of each experiment, as its CSV has it."""
    return {e.id: user.ask(lambda client, e=e: b"".join(client.export(e.id, "csv"))) for e in experiments}


def attempts_overlap(lab: Lab) -> list[str]:
    """Two attempts of one experiment that reported at once."""
    rows: Any = lab.sql(
        "SELECT a.experiment_id, a.number, b.number FROM attempts a JOIN attempts b "
        "ON a.experiment_id = b.experiment_id AND b.number = a.number + 1 "
        "WHERE coalesce(a.heartbeat_at, a.started_at) >= b.started_at"
    )
    return [f"experiment, attempts {row} reported at once" for row in rows.splitlines()]
