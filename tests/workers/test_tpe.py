"""TPE: that it learns, and that a run taken up again goes on as the same search."""

from pathlib import Path
from typing import Any

import pytest

from adadim_core.spec import ExperimentSpec, TrialPlan, configuration_of, plan_trials, validate_spec
from workers.storage.folder import Storage, read_json
from workers.storage.trial_result import TrialResult
from workers.sweep.queue import TrialQueue
from workers.sweep.tpe import Tpe

POINT = {"training.lr": 0.5, "objective.weighting": {"policy": "fixed", "alpha": 0.5}}


def search(**fields: Any) -> ExperimentSpec:
    weighting = {"choice": [{"policy": "adaptive"}, {"policy": "fixed", "alpha": {"uniform": [0.0, 1.0]}}]}
    space = {"training.lr": {"log_uniform": [0.01, 1.0]}, "objective.weighting": weighting}
    document = {"algorithm": "tpe", "trials": 40, "metric": "h_r", "points": [POINT], "space": space}
    return validate_spec({"name": "a", "search": document | fields})


def tpe(spec: ExperimentSpec) -> Tpe:
    assert spec.search is not None
    return Tpe(spec.search)


def value(params: dict[str, Any]) -> float:
    """Best for a fixed alpha of 0.7."""
    weighting = params["objective.weighting"]
    return -1.0 if weighting["policy"] == "adaptive" else -abs(float(weighting["alpha"]) - 0.7)


def run(tpe: Tpe, spec: ExperimentSpec, numbers: range) -> dict[int, dict[str, Any]]:
    found = {}
    for plan in plan_trials(spec)[numbers.start : numbers.stop]:
        params = found[plan.number] = tpe.start(plan.number, plan.params)
        tpe.end(plan.number, value(params))
    return found


def test_it_learns_from_what_it_is_told() -> None:
    spec = search()
    chosen = run(tpe(spec), spec, range(40))
    assert chosen[0] == POINT
    first, last = ([value(chosen[n]) for n in part] for part in (range(1, 11), range(30, 40)))
    assert sum(last) / 10 > sum(first) / 10 + 0.1


def test_a_search_taken_up_again_goes_on_as_if_it_had_not_been_interrupted() -> None:
    spec = search()
    undisturbed = run(tpe(spec), spec, range(25))
    second = tpe(spec)
    for number in range(15):  # what the first attempt left on disk
        second.start(number, undisturbed[number])
        second.end(number, value(undisturbed[number]))
    assert run(second, spec, range(15, 25)) == {n: undisturbed[n] for n in range(15, 25)}


def test_it_chooses_no_configuration_twice_while_there_are_others(tmp_path: Path) -> None:
    space = {"training.lr": {"choice": [0.1, 0.2, 0.3]}, "training.optimizer": {"choice": ["sgd", "lars"]}}
    spec = search(space=space, points=[{"training.lr": 0.2, "training.optimizer": "lars"}], trials=8)
    assert len(plan_trials(spec)) == 6
    sampler, found = tpe(spec), set()
    for plan in plan_trials(spec):
        params = sampler.start(plan.number, plan.params)
        found.add((params["training.lr"], params["training.optimizer"]))
        sampler.end(plan.number, params["training.lr"])  # it would choose 0.3 again and again
    assert len(found) == 6


@pytest.mark.parametrize("shown", [None, float("nan"), float("inf")])
def test_a_trial_that_showed_nothing_is_no_value(shown: float | None) -> None:
    spec = search(trials=3)
    sampler = tpe(spec)
    sampler.start(0, POINT)
    sampler.end(0, shown)
    assert sampler.start(1, {})


def test_values_are_on_disk_before_their_trial_starts(tmp_path: Path) -> None:
    storage, spec = Storage(tmp_path), search(trials=4)
    room = [2]
    queue = TrialQueue(spec, storage, plan_trials(spec), [], lambda: room[0], lambda *_: None)
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
    left = [TrialPlan(n, {}, n) for n in range(20, 30)]
    queue = TrialQueue(spec, Storage(tmp_path), left, finished, lambda: 1, lambda *_: None)
    policies = []
    for plan in left:
        suggested = queue.suggest(str(plan.number))
        assert suggested is not None
        policies.append(suggested["params"]["objective.weighting"]["policy"])
        queue.on_trial_complete(str(plan.number), {"h_r": float(policies[-1] == "fixed")})
    assert policies.count("fixed") >= 7


def test_the_replicates_of_a_configuration_share_its_values_and_tpe_is_told_their_mean(tmp_path: Path) -> None:
    spec, storage = search(trials=2, seeds=2, points=[]), Storage(tmp_path)
    queue = TrialQueue(spec, storage, plan_trials(spec), [], lambda: 9, lambda *_: None)
    started = [queue.suggest(str(n)) or {} for n in range(4)]
    assert [trial["trial"] for trial in started] == [0, 2, 1, 3], "a configuration after the other"
    assert [trial["params"]["training.seed"] for trial in started] == [0, 1, 0, 1]
    values = [configuration_of(trial["params"]) for trial in started]
    assert values[0] == values[1] != values[2] == values[3]
    assert [read_json(storage.params(n)) for n in (0, 2)] == [trial["params"] for trial in started[:2]]

    told: list[tuple[int, float | None]] = []
    queue._chooser._tpe.end = lambda *said: told.append(said)  # type: ignore[union-attr,method-assign]
    queue.on_trial_complete("0", {"h_r": 1.0})
    assert told == [], "its other replicate is under way"
    queue.on_trial_complete("1", {"h_r": 2.0})
    queue.on_trial_complete("2", error=True)
    queue.on_trial_complete("3", {"h_r": 5.0})
    assert told == [(0, 1.5), (1, 5.0)]


def test_more_seeds_of_an_ended_search_take_the_values_that_were_chosen(tmp_path: Path) -> None:
    before, after, storage = search(trials=2, points=[]), search(trials=2, points=[], seeds=2), Storage(tmp_path)
    first = TrialQueue(before, storage, plan_trials(before), [], lambda: 9, lambda *_: None)
    started = [first.suggest(str(n)) or {} for n in range(2)]
    finished = [
        TrialResult(n, {**trial["params"], "training.seed": 0}, "succeeded", metrics={"h_r": 1.0})
        for n, trial in enumerate(started)
    ]
    second = TrialQueue(after, storage, plan_trials(after)[2:], finished, lambda: 9, lambda *_: None)
    assert [second.suggest("a"), second.suggest("b")] == [
        {"trial": n + 2, "params": {**started[n]["params"], "training.seed": 1}} for n in range(2)
    ]


def test_of_a_configuration_that_was_stopped_what_waits_is_left_out_and_tpe_is_told_the_rest(tmp_path: Path) -> None:
    spec, storage, left_out = search(trials=2, seeds=3, points=[]), Storage(tmp_path), {}
    storage.checkpoint(4).parent.mkdir(parents=True)
    storage.checkpoint(4).touch()  # it began in an earlier attempt
    queue = TrialQueue(
        spec, storage, plan_trials(spec), [], lambda: 1, lambda plan, why: left_out.update({plan.number: (plan, why)})
    )
    first = queue.suggest("a") or {}
    told: list[tuple[int, float | None]] = []
    queue._chooser._tpe.end = lambda *said: told.append(said)  # type: ignore[union-attr,method-assign]
    queue.drop(0, "asha: too far behind")
    assert left_out.keys() == {2}
    plan, reason = left_out[2]
    assert reason == "asha: too far behind"
    assert plan.params == {**first["params"], "training.seed": 1}, "shown with the values it would have had"
    queue.on_trial_complete("a", {"h_r": 1.0})
    assert (queue.suggest("b") or {})["trial"] == 4, "it is ended where it left what it came to"
    queue.on_trial_complete("b", {"h_r": 2.0})
    assert told == [(0, 1.5)]
    assert (queue.suggest("c") or {})["trial"] == 1
