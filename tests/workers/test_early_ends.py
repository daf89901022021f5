"""Which trials end early, and what the rules know after a restart. Without a cluster."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from adadim_core.spec import ExperimentSpec, validate_spec
from workers.storage.folder import Storage
from workers.storage.spool import Spool
from workers.storage.trial_result import TrialResult
from workers.sweep.budget import Budget
from workers.sweep.history import history
from workers.sweep.judges import MedianJudge
from workers.sweep.stopping import StopRules

TUNE: Any = SimpleNamespace(get_live_trials=list)
CONTINUE = TrialScheduler.CONTINUE


class TuneTrial:
    """What Tune's schedulers see of a trial, with an actor that notes what it is told."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"t{number}"
        self.config = {"trial": number, "params": {}}
        self.told: list[str] = []
        self.temporary_state = SimpleNamespace(
            ray_actor=SimpleNamespace(end_early=SimpleNamespace(remote=self.told.append))
        )


def spec_with(scheduler: dict[str, Any] | None = None, **sections: Any) -> ExperimentSpec:
    search = {"trials": 9, "metric": "h_r", "space": {"training.lr": {"uniform": [0.1, 0.5]}}}
    search["seeds"] = sections.pop("seeds", 1)
    return validate_spec({"name": "a", "search": search | ({"scheduler": scheduler} if scheduler else {})} | sections)


def rules(
    spec: ExperimentSpec,
    folder: Path,
    finished: tuple[int, ...] = (),
    minutes: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> StopRules:
    storage = Storage(folder)
    former = {number: TrialResult(number, {}, "succeeded") for number in finished}
    return StopRules(spec, storage, Budget(minutes, storage), former, check)


def spool(folder: Path, number: int, values: list[float], run: str = "1") -> None:
    """What a trial leaves: five steps an epoch, and its metric at the end of each."""
    file = Spool(Storage(folder).spool(number, run), number)
    for epoch, value in enumerate(values, start=1):
        file.append(epoch * 5 - 2, epoch - 0.4, {"h_r": -99.0})
        file.append(epoch * 5, float(epoch), {"loss": 1.0})
        file.append(epoch * 5, float(epoch), {"h_r": value})
    file.close()


def test_asha_stops_what_falls_behind_and_says_so(tmp_path: Path) -> None:
    judge = rules(spec_with({"name": "asha", "grace_epochs": 2, "reduction": 2}), tmp_path)
    good, poor = TuneTrial(0), TuneTrial(1)
    for trial in (good, poor):
        judge.on_trial_add(TUNE, trial)
    for epoch in (1, 2):
        assert judge.on_trial_result(TUNE, good, {"epoch": epoch, "h_r": 2.0}) == CONTINUE
    assert judge.on_trial_result(TUNE, poor, {"epoch": 1, "h_r": 1.0}) == CONTINUE
    assert judge.ends(poor, {"epoch": 2, "h_r": 1.0})
    assert good.told == []
    assert poor.told == ["asha: h_r 1 is too far behind, at epoch 2"]
    assert judge.on_trial_result(TUNE, poor, {"epoch": 3, "h_r": 9.0}) == CONTINUE, "it ends by itself"
    assert poor.told[1:] == ["asha: h_r 1 is too far behind, at epoch 3"], "its process died before it could end"


@pytest.mark.parametrize(
    "scheduler",
    [{"name": "asha", "grace_epochs": 2, "reduction": 2}, {"name": "median", "grace_epochs": 2, "min_trials": 2}],
)
def test_after_a_restart_trials_are_compared_with_those_of_earlier_attempts(
    scheduler: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(3):
        spool(tmp_path, number, [2.0, 2.0, 2.0])
    spool(tmp_path, 3, [1.0, 1.0])
    for finished, ends in (((0, 1, 2), True), ((), False)):  # False: with nothing to compare with
        judge = rules(spec_with(scheduler), tmp_path, finished)
        fresh, taken_up = TuneTrial(4), TuneTrial(3)
        judge.on_trial_add(TUNE, fresh)
        if ends or scheduler["name"] == "median":
            assert judge.ends(fresh, {"epoch": 2, "h_r": 0.5}) == ends
        judge.on_trial_add(TUNE, taken_up)
        assert not judge.ends(taken_up, {"epoch": 3, "h_r": 9.0}), "it goes on, and is the best by now"


def test_what_earlier_attempts_left_is_recorded_and_not_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judging hundreds of histories, each against all the others, would keep a run from starting for hours."""
    for number in range(3):
        spool(tmp_path, number, [2.0, 2.0, 2.0])
    verdicts: list[int] = []
    observe = MedianJudge.observe
    monkeypatch.setattr(MedianJudge, "observe", lambda *args: (verdicts.append(args[1]), observe(*args))[1])
    judge = rules(spec_with({"name": "median", "grace_epochs": 2, "min_trials": 2}), tmp_path, (0, 1, 2))
    fresh = TuneTrial(4)
    judge.on_trial_add(TUNE, fresh)
    assert verdicts == []
    assert judge.ends(fresh, {"epoch": 2, "h_r": 0.5})
    assert verdicts == [4]


def test_the_replicates_of_a_configuration_end_together_also_after_a_restart(tmp_path: Path) -> None:
    spec = spec_with({"name": "asha", "grace_epochs": 2, "reduction": 2}, seeds=3)
    storage, dropped = Storage(tmp_path), []

    def judge(finished: dict[int, TrialResult]) -> StopRules:
        dropped.clear()
        drop = lambda *said: dropped.append(said)  # noqa: E731
        return StopRules(spec, storage, Budget(None, storage), finished, lambda: None, drop)

    first = judge({})
    good, poor, sibling = TuneTrial(0), TuneTrial(1), TuneTrial(10)
    for trial in (good, poor, sibling):
        first.on_trial_add(TUNE, trial)
    assert not first.ends(good, {"epoch": 2, "h_r": 2.0})
    assert not first.ends(sibling, {"epoch": 1, "h_r": 9.0})
    assert first.ends(poor, {"epoch": 2, "h_r": 1.0})
    reason = "asha: h_r 1 is too far behind (trial 1)"
    assert dropped == [(1, reason)], "trial 19 waits"
    assert first.ends(sibling, {"epoch": 2, "h_r": 9.0})
    assert sibling.told == [f"{reason}, at epoch 2"]

    stopped = TrialResult(1, {}, "stopped", epoch=2, reason="asha: h_r 1 is too far behind, at epoch 2")
    second, again = judge({1: stopped}), TuneTrial(10)
    second.on_trial_add(TUNE, again)
    assert [configuration for configuration, _ in dropped] == [1]
    assert second.ends(again, {"epoch": 3, "h_r": 9.0})
    judge({1: TrialResult(1, {}, "stopped", epoch=2, reason="h_r no better for 3 epochs, at epoch 2")})
    assert dropped == [], "that was no comparison"


def test_an_infinite_value_is_not_held_against_others(tmp_path: Path) -> None:
    judge = rules(spec_with({"name": "asha", "grace_epochs": 2, "reduction": 3}), tmp_path)
    trials = [TuneTrial(number) for number in range(4)]
    for trial in trials:
        judge.on_trial_add(TUNE, trial)
    infinite = {"epoch": 2, "h_r": float("inf")}
    assert judge.ends(trials[0], infinite)
    judge.on_trial_complete(TUNE, trials[0], infinite)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        assert not judge.ends(trials[number], {"epoch": 2, "h_r": float(number)}), "the best so far"


def test_a_signal_is_heard_while_earlier_trials_are_read(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rules(spec_with({"name": "asha"}), tmp_path, (0, 1), check=interrupt)


def test_a_metric_that_is_not_finite_stops_a_trial_that_is_compared(tmp_path: Path) -> None:
    trial = TuneTrial(0)
    judge = rules(spec_with({"name": "asha"}), tmp_path)
    judge.on_trial_add(TUNE, trial)
    assert judge.ends(trial, {"epoch": 1, "h_r": float("nan")})
    assert trial.told == ["h_r is nan, at epoch 1"]
    assert judge.on_trial_result(TUNE, trial, {"epoch": 1}) == CONTINUE, "not measured yet"


def test_a_plateau_is_counted_over_attempts(tmp_path: Path) -> None:
    spec = spec_with(stop={"plateau": {"patience": 3, "min_delta": 0.1}})
    spool(tmp_path, 0, [1.0, 2.0, 2.05])
    trial, judge = TuneTrial(0), rules(spec, tmp_path)
    judge.on_trial_add(TUNE, trial)
    assert judge.on_trial_result(TUNE, trial, {"epoch": 4, "h_r": 2.0}) == CONTINUE
    assert judge.ends(trial, {"epoch": 5, "h_r": 2.1})
    assert trial.told == ["h_r no better for 3 epochs, at epoch 5"]


def test_the_time_budget_is_that_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("workers.sweep.budget.time", SimpleNamespace(monotonic=lambda: now))
    spec, trial = spec_with(), TuneTrial(0)
    first = Budget(1, Storage(tmp_path))
    now += 40
    assert not first.used_up
    first.store()
    judge = rules(spec, tmp_path, minutes=1)
    judge.on_trial_add(TUNE, trial)
    assert not judge.ends(trial, {"epoch": 1})
    now += 20
    assert judge.ends(trial, {"epoch": 2})
    assert trial.told == ["the time budget of 1 min is used up, at epoch 2"]
    assert not Budget(None, Storage(tmp_path)).used_up


def test_history_is_the_last_value_at_the_end_of_each_epoch_of_the_latest_run(tmp_path: Path) -> None:
    spool(tmp_path, 0, [1.0, 2.0])
    spool(tmp_path, 0, [5.0], run="2")
    assert history(Storage(tmp_path), 0, "h_r") == [(1, 5.0), (2, 2.0)]
    assert history(Storage(tmp_path), 0, "erank_r") == []
    assert history(Storage(tmp_path), 7, "h_r") == []
