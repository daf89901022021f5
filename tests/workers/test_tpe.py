"""TPE: that it learns, and that a run taken up again goes on as the same search."""

from pathlib import Path
from typing import Any

import pytest

from adadim_core.spec import TrialPlan, plan_trials, validate_spec
from adadim_core.spec.search import SearchSpec
from workers.storage.folder import Storage, read_json
from workers.storage.trial_result import TrialResult
from workers.sweep.queue import TrialQueue
from workers.sweep.tpe import Tpe

POINT = {"training.lr": 0.5, "objective.weighting": {"policy": "fixed", "alpha": 0.5}}


def search(**fields: Any) -> SearchSpec:
    weighting = {"choice": [{"policy": "adaptive"}, {"policy": "fixed", "alpha": {"uniform": [0.0, 1.0]}}]}
    space = {"training.lr": {"log_uniform": [0.01, 1.0]}, "objective.weighting": weighting}
    document = {"algorithm": "tpe", "trials": 40, "metric": "h_r", "points": [POINT], "space": space}
    spec = validate_spec({"name": "a", "search": document | fields}).search
    assert spec is not None
    return spec


def value(params: dict[str, Any]) -> float:
    """Best for a fixed alpha of 0.7."""
    weighting = params["objective.weighting"]
    return -1.0 if weighting["policy"] == "adaptive" else -abs(float(weighting["alpha"]) - 0.7)


def run(tpe: Tpe, spec: SearchSpec, numbers: range) -> dict[int, dict[str, Any]]:
    found = {}
    for plan in plan_trials(spec)[numbers.start : numbers.stop]:
        params = found[plan.number] = tpe.start(plan.number, plan.params)
        tpe.end(plan.number, value(params))
    return found


def test_it_learns_from_what_it_is_told() -> None:
    spec = search()
    chosen = run(Tpe(spec), spec, range(40))
    assert chosen[0] == POINT
    first, last = ([value(chosen[n]) for n in part] for part in (range(1, 11), range(30, 40)))
    assert sum(last) / 10 > sum(first) / 10 + 0.1


def test_a_search_taken_up_again_goes_on_as_if_it_had_not_been_interrupted() -> None:
    spec = search()
    undisturbed = run(Tpe(spec), spec, range(25))
    second = Tpe(spec)
    for number in range(15):  # what the first attempt left on disk
        second.start(number, undisturbed[number])
        second.end(number, value(undisturbed[number]))
    assert run(second, spec, range(15, 25)) == {n: undisturbed[n] for n in range(15, 25)}


@pytest.mark.parametrize("shown", [None, float("nan"), float("inf")])
def test_a_trial_that_showed_nothing_is_no_value(shown: float | None) -> None:
    spec = search(trials=3)
    tpe = Tpe(spec)
    tpe.start(0, POINT)
    tpe.end(0, shown)
    assert tpe.start(1, {})


def test_values_are_on_disk_before_their_trial_starts(tmp_path: Path) -> None:
    storage, spec = Storage(tmp_path), search(trials=4)
    room = [2]
    queue = TrialQueue(spec, storage, plan_trials(spec), [], lambda: room[0])
    first, second = queue.suggest("a"), queue.suggest("b")
    assert first == {"trial": 0, "params": POINT}
    assert second is not None
    assert read_json(storage.params(1)) == second["params"]
    assert queue.suggest("c") is None, "no room"
    queue.on_trial_complete("a", {"h_r": 1.0})
    third = queue.suggest("c")
    assert third is not None
    assert third["trial"] == 2
    room[0] = 3  # a node joined
    fourth = queue.suggest("d")
    assert fourth is not None
    assert fourth["trial"] == 3
    assert isinstance(queue.suggest("e"), str), "finished"


def test_a_queue_learns_from_the_trials_of_earlier_attempts(tmp_path: Path) -> None:
    spec = search(trials=30)
    good = {"training.lr": 0.1, "objective.weighting": {"policy": "fixed", "alpha": 0.7}}
    bad = {"training.lr": 0.1, "objective.weighting": {"policy": "adaptive"}}
    finished = [
        TrialResult(n, good if n % 2 else bad, "succeeded", metrics={"h_r": 1.0 if n % 2 else 0.0}) for n in range(20)
    ]
    left = [TrialPlan(n, {}) for n in range(20, 30)]
    queue = TrialQueue(spec, Storage(tmp_path), left, finished, lambda: 1)
    policies = []
    for plan in left:
        suggested = queue.suggest(str(plan.number))
        assert suggested is not None
        policies.append(suggested["params"]["objective.weighting"]["policy"])
        queue.on_trial_complete(str(plan.number), {"h_r": float(policies[-1] == "fixed")})
    assert policies.count("fixed") >= 7
