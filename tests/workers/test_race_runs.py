"""A race as trials that start or do not: from the queue alone, without Ray, over restarts, and once for real."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_harness import WorkerRun, tiny_spec

from adadim_core.spec import ExperimentSpec, TrialPlan, plan_trials, validate_spec
from workers.storage.folder import Storage
from workers.storage.trial_result import TrialResult
from workers.sweep.queue import TrialQueue
from workers.sweep.race import never_to_start

MEANS = (0.8, 0.2, 0.79, 0.5)
"""Of configurations 0 to 3."""


def race(**options: Any) -> ExperimentSpec:
    alphas = [{"policy": "fixed", "alpha": k / 10} for k in range(len(MEANS))]
    search = {
        "algorithm": "grid",
        "metric": "h_r",
        "seeds": {"first": 3, "most": 6},
        "scheduler": {"name": "race"} | options,
        "space": {"objective.weighting": {"choice": alphas}},
    }
    return validate_spec({"name": "a", "search": search})


def value(number: int, noise: float = 0.01) -> float:
    configuration, seed = number % len(MEANS), number // len(MEANS)
    rng = random.Random(f"{seed}/{configuration}")
    return MEANS[configuration] + noise * rng.gauss(0, 1) + 0.1 * random.Random(seed).gauss(0, 1)


class Sweep:
    """What a driver does with a queue: trials start, and end in any order; it may be killed and started again."""

    def __init__(self, spec: ExperimentSpec, folder: Path, slots: int = 3) -> None:
        self.spec, self.folder, self.slots = spec, folder, slots
        self.done: dict[int, TrialResult] = {}
        self.left_out: dict[int, str] = {}
        self.runs: list[int] = []
        """Numbers of trials in the order they started; the position is Tune's name of the trial."""

    def run(self, rng: random.Random, *, until: int = 10**6, failing: tuple[int, ...] = ()) -> None:
        """Run the trials that are left, in an attempt that is killed when `until` trials have ended."""
        finished = list(self.done.values())
        plans = [plan for plan in plan_trials(self.spec) if plan.number not in self.done]
        self.left_out = never_to_start(self.spec, plans, finished)
        plans = [plan for plan in plans if plan.number not in self.left_out]
        queue = TrialQueue(self.spec, Storage(self.folder), plans, finished, lambda: self.slots, self._leave_out)
        live: list[tuple[str, int]] = []
        ended = 0
        while ended < until:
            trial = queue.suggest(str(len(self.runs)))
            if isinstance(trial, dict):
                live.append((str(len(self.runs)), trial["trial"]))
                self.runs.append(trial["trial"])
                continue
            if not live:
                assert trial == "FINISHED", "it waits for nothing"
                return
            name, number = live.pop(rng.randrange(len(live)))
            ended += 1
            if number in failing:
                queue.on_trial_complete(name, error=True)
                continue
            shown = {"h_r": value(number)}
            self.done[number] = TrialResult(number, {}, "succeeded", metrics=shown)
            queue.on_trial_complete(name, shown)

    def _leave_out(self, plan: TrialPlan, reason: str) -> None:
        assert plan.number not in self.left_out
        self.left_out[plan.number] = reason


def test_what_is_dropped_does_not_start_again_and_the_rest_gets_another_seed(tmp_path: Path) -> None:
    sweep = Sweep(race(), tmp_path)
    sweep.run(random.Random(0))
    assert sweep.runs[:12] == list(range(12)), "three seeds of all, block by block"
    configurations = {k: [n for n in sweep.runs if n % 4 == k] for k in range(4)}
    assert len(configurations[1]) == len(configurations[3]) < len(configurations[2]) == len(configurations[0]) == 6
    assert sorted([*sweep.runs, *sweep.left_out]) == list(range(24))
    reason = sweep.left_out[21]
    assert reason.startswith(f"dropped by the race after {len(configurations[1])} seeds: h_r -0.")
    assert "against fixed 0, p " in reason


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), max_size=4), st.integers(1, 5))
def test_a_race_comes_to_the_same_whatever_ends_first_and_however_often_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kills: list[int], slots: int
) -> None:
    folder = tmp_path_factory.mktemp("race")
    undisturbed, disturbed = Sweep(race(), folder, 1), Sweep(race(), folder, slots)
    undisturbed.run(random.Random(0))
    for ended in kills:
        disturbed.run(random.Random(seed), until=ended)
    disturbed.run(random.Random(seed))
    assert disturbed.done.keys() == undisturbed.done.keys()
    assert disturbed.left_out == undisturbed.left_out


def test_the_rest_of_a_race_that_is_over_is_left_out_before_ray_starts(tmp_path: Path) -> None:
    spec = race(indifference=0.2)
    sweep = Sweep(spec, tmp_path)
    sweep.run(random.Random(0))
    over = [why for number, why in sweep.left_out.items() if number % 4 in (0, 2)]
    assert over[0].startswith("the race was over after ")
    assert over[0].endswith(" seeds: all that are left are within 0.2 of each other")
    left = [plan for plan in plan_trials(spec) if plan.number not in sweep.done]
    assert never_to_start(spec, left, list(sweep.done.values())) == sweep.left_out
    assert never_to_start(spec, plan_trials(spec), []) == {}


def test_a_replicate_that_failed_holds_nobody_up_and_is_tried_again(tmp_path: Path) -> None:
    sweep = Sweep(race(), tmp_path)
    sweep.run(random.Random(0), failing=(4,))
    assert {0, 8, 12, 16, 20} <= sweep.done.keys()
    sweep.run(random.Random(0))
    assert 4 in sweep.done


def test_a_trial_that_tune_lost_drops_no_configuration_and_runs_again(tmp_path: Path) -> None:
    """All first replicates of the best configuration, as in a cluster whose nodes go."""
    spec, lost, left_out = race(), {0, 4, 8}, {}
    done: dict[int, TrialResult] = {}

    def queue_of(plans: list[TrialPlan]) -> TrialQueue:
        leave_out = lambda plan, why: left_out.update({plan.number: why})  # noqa: E731
        return TrialQueue(spec, Storage(tmp_path), plans, list(done.values()), lambda: 2, leave_out)

    def run(queue: TrialQueue, losing: set[int]) -> None:
        live: list[tuple[str, int]] = []
        while True:
            name = f"{len(done)}-{len(live)}"
            trial = queue.suggest(name)
            if isinstance(trial, dict):
                live.append((name, trial["trial"]))
                continue
            if not live:
                assert trial == "FINISHED", "it waits for nothing"
                return
            name, number = live.pop()
            queue.losing.clear()
            if number in losing:
                queue.losing.add(number)
                queue.on_trial_complete(name, error=True)
            else:
                done[number] = TrialResult(number, {}, "succeeded", metrics={"h_r": value(number)})
                queue.on_trial_complete(name, done[number].metrics)

    first = queue_of(plan_trials(spec))
    run(first, lost)
    assert lost <= first.left, "they run again, and what waited for them"
    assert {n % 4 for n in left_out}.isdisjoint({0}), "the best configuration is still in the race"
    second = queue_of([plan for plan in plan_trials(spec) if plan.number in first.left])
    run(second, set())
    undisturbed = Sweep(spec, tmp_path)
    undisturbed.run(random.Random(0))
    assert (done.keys(), left_out, second.left) == (undisturbed.done.keys(), undisturbed.left_out, set())


def test_an_extension_goes_on_with_those_that_were_left(tmp_path: Path) -> None:
    sweep = Sweep(race(), tmp_path)
    sweep.run(random.Random(0))
    before = list(sweep.runs)
    document = sweep.spec.model_dump(mode="json")
    document["search"]["seeds"]["most"] = 8
    sweep.spec = validate_spec(document)
    sweep.run(random.Random(0))
    assert sweep.runs[len(before) :] == [24, 26, 28, 30]


def test_with_no_time_left_what_has_begun_need_not_wait_for_the_others(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.checkpoint(12).parent.mkdir(parents=True)
    storage.checkpoint(12).touch()
    finished = [TrialResult(n, {}, "succeeded", metrics={"h_r": value(n)}) for n in range(11)]
    plans = [plan for plan in plan_trials(race()) if plan.number > 10]
    queue = TrialQueue(race(), storage, plans, finished, lambda: 9, lambda *_: None)
    started = queue.suggest("a")
    assert started is not None
    assert started["trial"] == 11
    assert queue.suggest("b") is None, "the first block is not complete"
    queue.close()
    started = queue.suggest("b")
    assert started is not None
    assert started["trial"] == 12


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_race_on_a_cluster_and_its_extension(run_workers: Callable[..., WorkerRun]) -> None:
    """Learning rates that learn nothing are dropped; more seeds leave out what was decided, and train nothing again."""

    def spec(most: int) -> dict[str, Any]:
        search = {
            "algorithm": "grid",
            "metric": "loss",
            "mode": "min",
            "seeds": {"first": 3, "most": most},
            "scheduler": {"name": "race"},
            "space": {"training.lr": {"choice": [3e-3, 1e-8, 2e-8]}},
        }
        return tiny_spec(objective={"weighting": {"policy": "fixed"}}, search=search)

    first = run_workers(spec(6))
    assert first.finish(200) == 0, first.output
    trials = json.loads((first.storage / "results.json").read_text())["trials"]
    assert len(trials) == 18
    trained = [trial["number"] for trial in trials if trial["state"] == "succeeded"]
    assert trained == list(range(len(trained))), "in blocks"
    assert 9 <= len(trained) < 18
    reasons = [trial["reason"] for trial in trials[-3:]]
    assert "one configuration is left" in reasons[0]
    assert all(reason.startswith("dropped by the race after ") for reason in reasons[1:])

    second = run_workers(spec(7))
    assert second.finish(200) == 0, second.output
    trials = json.loads((first.storage / "results.json").read_text())["trials"]
    assert [trial["number"] for trial in trials if trial["state"] == "succeeded"] == trained
    assert [trial["reason"] for trial in trials[-3:]] == reasons
