"""An experiment and its trials as they are now, kept up to date by the service's events.

Owns the order in which what was read and what is streamed count. Does not own how it is shown: `adadim watch` and
`Experiment.wait` draw it.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from adadim.client import Client, Event


@dataclass(frozen=True)
class Change:
    """What one event changed."""

    experiment: bool = False
    """Its state, or the reason for that."""
    trials: tuple[int, ...] = field(default=())
    """Numbers of trials with another state, another epoch measured, or another value after their end."""


class Following:
    """An experiment, its trials and their newest values."""

    experiment: dict[str, Any]
    """As the API shows it."""
    trials: dict[int, dict[str, Any]]
    """By number, as the API shows them; `latest` holds the newest values, `latest_steps` their steps."""

    def __init__(self, client: Client, experiment_id: int) -> None:
        self._client = client
        measured = client.metrics(experiment_id, ["h_r"], max_points=10)
        self._seq = measured["seq"]  # what is read below is of later: whatever happens from here on is streamed
        self.epochs = {series["trial"]: math.floor(series["epochs"][-1]) for series in measured["series"]}
        """Of each trial the epoch in which H(R) was measured last."""
        self.experiment = client.experiment(experiment_id)
        self.trials = {trial["number"]: trial for trial in client.trials(experiment_id)}
        words = client.words()
        self._order = [state["name"] for state in words["trial_states"]]
        self._ended = {state["name"] for state in words["experiment_states"] if state["ended"]}
        self._trial_ended = {state["name"] for state in words["trial_states"] if state["ended"]}

    def has_ended(self) -> bool:
        """Nothing more happens to the experiment by itself."""
        return self.experiment["state"] in self._ended

    def summary(self) -> str:
        """How many trials are in each state, as "2 running, 5 succeeded, 1 failed"."""
        counts = Counter(trial["state"] for trial in self.trials.values())
        ordered = sorted(counts, key=lambda state: self._order.index(state) if state in self._order else 99)
        return ", ".join(f"{counts[state]} {state}" for state in ordered) or "no trials"

    def progress(self) -> float:
        """The share of all planned epochs that is trained, in [0, 1]. What has ended counts as a whole."""
        shares = [self._share(trial) for trial in self.trials.values()]
        return sum(shares) / len(shares) if shares else 0.0

    def changes(self) -> Iterator[Change]:
        """Applies events until the experiment has ended, and says of each what it changed. Raises ClientError."""
        if self.has_ended():
            return
        for event in self._client.events(self.experiment["id"], after=self._seq):
            change = self._apply(event)
            if self.has_ended():  # an event carries the present state: what the stream has yet to say may be of before
                yield Change(change.experiment, self._read_again())
                return
            yield change

    def _share(self, trial: dict[str, Any]) -> float:
        if trial["state"] in self._trial_ended:
            return 1.0
        return min(trial["epoch"] / trial["epochs"], 1.0) if trial["epochs"] else 0.0

    def _apply(self, event: Event) -> Change:
        if event.kind == "experiment":
            before = self.experiment["state"], self.experiment["state_reason"]
            self.experiment |= event.data
            return Change(experiment=before != (event.data["state"], event.data["state_reason"]))
        if event.kind == "trial":
            return self._apply_trial(event.data)
        if event.kind == "points":
            return self._apply_points(event.data["series"])
        return Change(trials=self._read_again())  # reset: points were missed, their last values are with the trials

    def _read_again(self) -> tuple[int, ...]:
        """Takes over the present state; returns the trials whose state or values are others than before."""
        before = {number: (trial["state"], trial["latest"]) for number, trial in self.trials.items()}
        self.experiment |= self._client.experiment(self.experiment["id"])
        self.trials = {trial["number"]: trial for trial in self._client.trials(self.experiment["id"])}
        now = {number: (trial["state"], trial["latest"]) for number, trial in self.trials.items()}
        return tuple(number for number in now if now[number] != before.get(number))

    def _apply_trial(self, trial: dict[str, Any]) -> Change:
        """It carries the present state, which may be newer than points that are yet to come, and never older."""
        number = trial["number"]
        before = self.trials.get(number)
        self.trials[number] = trial
        if before is None or before["state"] != trial["state"]:
            return Change(trials=(number,))
        corrected = trial["state"] in self._trial_ended and before["latest"] != trial["latest"]
        return Change(trials=(number,) if corrected else ())

    def _apply_points(self, series: list[dict[str, Any]]) -> Change:
        changed: set[int] = set()
        for part in series:
            number, metric, step = part["trial"], part["metric"], part["steps"][-1]
            trial = self.trials[number]
            if step < trial["latest_steps"].get(metric, 0):  # the trial is known as it was later
                continue
            trial["latest_steps"][metric] = step
            if trial["state"] in self._trial_ended and trial["latest"].get(metric) != part["values"][-1]:
                changed.add(number)
            trial["latest"][metric] = part["values"][-1]
            epoch = math.floor(part["epochs"][-1])
            if metric == "h_r" and epoch > self.epochs.get(number, 0):
                self.epochs[number] = epoch
                changed.add(number)
        return Change(trials=tuple(sorted(changed)))
