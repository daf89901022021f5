"""Who learns from whom, as the rules decide it. Populations that really train: test_search_runs.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from worker_harness import tiny_spec

from adadim_core.spec import validate_spec
from workers.storage.folder import Storage
from workers.sweep.budget import Budget
from workers.sweep.population import Population

LR = {"training.lr": {"log_uniform": [1e-4, 1e-1]}}


class TuneTrial:
    """A trial that trains, with an actor that notes what it is told."""

    status = Trial.RUNNING

    def __init__(self, number: int) -> None:
        self.trial_id = f"t{number}"
        self.config = {"trial": number, "params": {"training.lr": 0.01 * (number + 1)}}
        self.told: list[tuple[Any, ...]] = []
        calls = ("end_early", "take_over", "keep")
        self.temporary_state = SimpleNamespace(ray_actor=SimpleNamespace(**{name: self._call(name) for name in calls}))

    def _call(self, name: str) -> Any:
        def remote(*arguments: Any) -> str:
            self.told.append((name, *arguments))
            return f"{name} of {self.trial_id}"

        return SimpleNamespace(remote=remote)


@pytest.fixture
def trials() -> list[TuneTrial]:
    return [TuneTrial(0), TuneTrial(1)]


@pytest.fixture
def population(trials: list[TuneTrial], tmp_path: Path) -> Population:
    scheduler = {"name": "pbt", "every_epochs": 5, "quantile": 0.5}
    search = {"algorithm": "random", "trials": 2, "metric": "h_r", "scheduler": scheduler, "space": LR}
    spec, storage = validate_spec(tiny_spec(training={"epochs": 100}, search=search)), Storage(tmp_path)
    assert spec.search is not None
    settings: Any = spec.search.scheduler
    found = Population(spec, spec.search, settings, storage, Budget(None, storage), {}, lambda: None, lambda *_: None)
    for trial in trials:
        found.on_trial_add(tune(trials), trial)  # type: ignore[arg-type]
    return found


def tune(trials: list[TuneTrial]) -> Any:
    return SimpleNamespace(get_trials=lambda: trials)


def show(population: Population, trials: list[TuneTrial], number: int, epoch: int, value: float) -> None:
    trial: Any = trials[number]
    population.on_trial_result(tune(trials), trial, {"epoch": epoch, "h_r": value})


def test_the_poor_one_waits_for_the_weights_that_it_takes_over(population: Population, trials: list[TuneTrial]) -> None:
    show(population, trials, 1, 5, 9.0)
    show(population, trials, 0, 5, 1.0)
    assert trials[1].told == [("keep",)]
    (call,) = trials[0].told
    assert (call[0], call[1], call[3]) == ("take_over", 1, ["keep of t1"])


def test_one_thrown_back_is_compared_again_only_where_it_has_come_further(
    population: Population, trials: list[TuneTrial]
) -> None:
    """So that a population ends, whatever its trials show."""
    show(population, trials, 1, 5, 9.0)
    show(population, trials, 0, 10, 1.0)
    assert trials[0].told[-1][0] == "take_over"
    del trials[0].told[:]
    for epoch in range(6, 15):
        show(population, trials, 0, epoch, 1.0)
    assert trials[0].told == []
    show(population, trials, 0, 15, 1.0)
    assert trials[0].told[-1][0] == "take_over"


def test_one_that_took_over_is_as_good_as_its_donor_and_who_learns_from_it_waits_for_it(
    population: Population, trials: list[TuneTrial]
) -> None:
    show(population, trials, 1, 5, 9.0)
    show(population, trials, 0, 5, 1.0)
    show(population, trials, 1, 10, 8.0)
    assert trials[1].told[-1][:2] == ("take_over", 0)
    assert trials[1].told[-1][3] == ["take_over of t0"]
