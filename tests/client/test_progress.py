"""What waiting shows, and that values are the newest, over a stand-in for the client."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from adadim.client import Client, Event
from adadim.following import Following
from adadim.progress import shown, words

WORDS = {
    "experiment_states": [{"name": "running", "ended": False}, {"name": "failed", "ended": True}],
    "trial_states": [
        {"name": name, "ended": name not in ("running", "pending")}
        for name in ("running", "pending", "succeeded", "failed")
    ],
}


def trial(number: int, state: str, epoch: int = 0, step: int = 10, **latest: Any) -> dict[str, Any]:
    return {
        "number": number,
        "label": "fixed 0.5",
        "state": state,
        "epoch": epoch,
        "epochs": 4,
        "latest": latest,
        "latest_steps": dict.fromkeys(latest, step),
    }


class StandIn(Client):
    """A service with one experiment, whose events are given."""

    def __init__(self, trials: list[dict[str, Any]], events: list[Event]) -> None:
        super().__init__("http://service", "token")
        self._trials, self._given = trials, events
        self.present = {"id": 7, "name": "sweep", "state": "running", "state_reason": None}

    def metrics(self, experiment_id: int, names: list[str] | None, max_points: int = 1000) -> dict[str, Any]:
        return {"seq": 3, "series": []}

    def experiment(self, experiment_id: int) -> dict[str, Any]:
        return dict(self.present)

    def trials(self, experiment_id: int) -> list[dict[str, Any]]:
        return [dict(one) for one in self._trials]

    def words(self) -> dict[str, Any]:
        return WORDS

    def events(self, experiment_id: int, *, after: int = 0, patience_s: float = 60.0) -> Iterator[Event]:
        assert after == 3, "nothing between the first reading and the stream is missed"
        for event in self._given:
            self.present |= event.data if event.kind == "experiment" else {}
            yield event


def points(number: int, step: int, value: Any, metric: str = "h_r") -> Event:
    part = {"trial": number, "metric": metric, "steps": [step], "epochs": [step / 10], "values": [value]}
    return Event(step, "points", {"series": [part]})


def test_a_trials_own_state_is_newer_than_what_was_streamed_before_it() -> None:
    ended = Event(9, "trial", trial(0, "succeeded", 4, knn_top1=0.969))
    client = StandIn([trial(0, "running", 1)], [points(0, 20, 0.978, "knn_top1"), ended])
    following = Following(client, 7)
    changes = list(following.changes())
    assert changes[-1].trials == (0,)
    assert following.trials[0]["latest"] == {"knn_top1": 0.969}


def test_points_that_a_trial_was_ahead_of_take_nothing_back() -> None:
    ended = trial(0, "succeeded", 4, step=6, h_r=2.969)
    events = [Event(5, "trial", ended), points(0, 5, 2.978), Event(7, "trial", ended), points(0, 6, 2.969)]
    following = Following(StandIn([trial(0, "running", 1)], events), 7)
    told = [following.trials[0]["latest"]["h_r"] for change in following.changes() if change.trials]
    assert told == [2.969]


def test_a_value_that_only_a_trials_event_brings_after_its_end_is_told() -> None:
    known = trial(0, "succeeded", 4, h_r=2.0)
    events = [Event(5, "trial", trial(0, "succeeded", 4, step=11, h_r=2.5))]
    following = Following(StandIn([known], events), 7)
    assert [change.trials for change in following.changes()] == [(0,)]


def test_late_points_of_an_earlier_attempt_change_nothing() -> None:
    following = Following(StandIn([trial(0, "running", 1, h_r=2.0)], [points(0, 5, 9.0)]), 7)
    assert [change.trials for change in following.changes()] == [()]
    assert following.trials[0]["latest"]["h_r"] == 2.0


def test_a_value_after_a_trials_end_is_told_again() -> None:
    following = Following(StandIn([trial(0, "succeeded", 4, knn_top1=0.9)], [points(0, 40, 0.95, "knn_top1")]), 7)
    assert [change.trials for change in following.changes()] == [(0,)]
    assert following.trials[0]["latest"]["knn_top1"] == 0.95


def test_progress_is_the_share_of_epochs_and_counts_what_ended() -> None:
    trials = [
        trial(0, "succeeded", 4),
        trial(1, "failed", 1),
        trial(2, "running", 2),
        trial(3, "pending") | {"epochs": 0},
    ]
    following = Following(StandIn(trials, []), 7)
    assert following.progress() == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert words(following) == "experiment 7 (sweep) running: 1 running, 1 pending, 1 succeeded, 1 failed"


def test_a_cell_is_updated_for_what_is_new_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[str] = []
    handle = SimpleNamespace(update=lambda shown: updates.append(shown.data))
    monkeypatch.setattr("adadim.progress._in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    events = [points(0, step, float(step)) for step in range(20, 40)]
    following = Following(StandIn([trial(0, "running", 2)], [*events, Event(50, "trial", trial(0, "succeeded", 4))]), 7)
    with shown(following) as show:
        for _ in following.changes():
            show(following)
    assert [re.search(r'value="([\d.]+)"', text)[1] for text in updates] == ["0.500", "1.000"]
    assert updates[-1].endswith("experiment 7 (sweep) running: 1 succeeded")


def test_a_pipe_gets_a_line_only_for_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        Event(4, "trial", trial(0, "running", 1)),
        points(0, 20, 1.0),
        points(0, 21, 1.0),
        Event(5, "trial", trial(0, "failed", 1)),
        Event(6, "experiment", {"state": "failed", "state_reason": "every trial failed"}),
    ]
    client = StandIn([trial(0, "pending")], events)
    following = Following(client, 7)
    with shown(following) as show:
        for _ in following.changes():
            show(following)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "  0%  experiment 7 (sweep) running: 1 pending"
    assert told[-1].startswith("  0%  experiment 7 (sweep) failed:")
    assert len(told) == len(set(told)) <= 4
