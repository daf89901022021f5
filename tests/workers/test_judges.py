"""ASHA and median stopping on configurations: with one seed as published, with several by the means of replicates."""

import statistics
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from adadim_core.spec.scheduler import Asha, MedianStopping
from workers.sweep.judges import AshaJudge, Behind, Judge, MedianJudge

EPOCHS = 9
ONE_SEED = {number: number for number in range(6)}
TWO_SEEDS = {number: number % 3 for number in range(6)}


class Trial:
    """What Tune's schedulers need of one."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


class NoTrials:
    """A controller that has none waiting."""

    def get_live_trials(self) -> list[Trial]:
        return []


def asha(mode: str = "max", configurations: dict[int, int] = ONE_SEED) -> AshaJudge:
    return AshaJudge(Asha(grace_epochs=1, reduction=3), EPOCHS, mode, configurations)


def median(mode: str = "max", configurations: dict[int, int] = ONE_SEED) -> MedianJudge:
    return MedianJudge(MedianStopping(grace_epochs=2, min_trials=2), mode, configurations)


def tunes_asha(mode: str) -> AsyncHyperBandScheduler:
    return AsyncHyperBandScheduler(
        time_attr="epoch", metric="m", mode=mode, max_t=EPOCHS, grace_period=1, reduction_factor=3,
        stop_last_trials=False,
    )  # fmt: skip


def tunes_median(mode: str) -> MedianStoppingRule:
    return MedianStoppingRule(time_attr="epoch", metric="m", mode=mode, grace_period=2, min_samples_required=2)


_courses = st.lists(
    st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=EPOCHS, max_size=EPOCHS), min_size=6, max_size=6
)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(("ours", "theirs"), [(asha, tunes_asha), (median, tunes_median)])
@settings(max_examples=60, deadline=None)
@given(courses=_courses, turns=st.lists(st.integers(0, 5), min_size=10, max_size=60))
def test_with_one_seed_the_verdicts_are_ray_tunes(
    ours: Callable[[str], Judge],
    theirs: Callable[[str], AsyncHyperBandScheduler | MedianStoppingRule],
    mode: str,
    courses: list[list[float]],
    turns: list[int],
) -> None:
    judge, scheduler, trials = ours(mode), theirs(mode), [Trial(number) for number in range(6)]
    epochs, stopped = [0] * 6, set()
    for trial in trials:
        scheduler.on_trial_add(NoTrials(), trial)  # type: ignore[arg-type]
    for number in turns:
        if number in stopped or epochs[number] == EPOCHS:
            continue
        epochs[number] += 1
        result = {"epoch": epochs[number], "m": courses[number][epochs[number] - 1]}
        expected = scheduler.on_trial_result(NoTrials(), trials[number], result) == TrialScheduler.STOP  # type: ignore[arg-type]
        behind = judge.observe(number, epochs[number], result["m"])
        assert (behind is not None) == expected
        if expected:
            stopped.add(number)
            assert behind is not None
            assert behind.replicates == 1


def test_asha_judges_a_configuration_by_the_mean_of_the_replicates_that_came() -> None:
    judge = asha(configurations=TWO_SEEDS)
    assert [judge.observe(number, 1, value) for number, value in ((0, 5.0), (1, 6.0))] == [None, None]
    assert judge.observe(2, 1, 1.0) == Behind(1.0, 1)
    assert judge.observe(3, 1, 9.0) is None, "a mean of 7 beside 6 and 1"
    assert judge.observe(4, 1, 2.0) == Behind(4.0, 2), "a mean of 4, though its first replicate came through"
    assert judge.observe(3, 2, 0.0) is None, "not at a milestone, and judged there before"


def test_median_stopping_compares_means_of_replicates() -> None:
    judge = median(configurations=TWO_SEEDS)
    for number, value in ((0, 5.0), (3, 7.0), (1, 6.0)):
        assert judge.observe(number, 2, value) is None
    assert judge.observe(2, 2, 5.5) == Behind(5.5, 1), "the median of the others, 6 and 6, is 6"
    assert judge.observe(5, 2, 7.5) is None, "a mean of 6.5"


class _Formula:
    """Median stopping of two seeds as the formula says it, over all values at every epoch."""

    def __init__(self) -> None:
        self._values: dict[int, dict[int, float]] = {number: {} for number in TWO_SEEDS}

    def observe(self, number: int, epoch: int, value: float) -> Behind | None:
        self._values[number][epoch] = value
        own, means = TWO_SEEDS[number], []
        for other in set(TWO_SEEDS.values()) - {own}:
            courses = [self._values[n] for n, of in TWO_SEEDS.items() if of == other]
            of_replicates = [
                statistics.fmean(found)
                for course in courses
                if max(course, default=0) >= epoch and (found := [v for at, v in course.items() if 2 <= at <= epoch])
            ]
            means += [statistics.fmean(of_replicates)] if of_replicates else []
        courses = [self._values[n] for n, of in TWO_SEEDS.items() if of == own]
        bests = [max(found) for course in courses if (found := [v for at, v in course.items() if at <= epoch])]
        if epoch < 2 or len(means) < 2 or statistics.fmean(bests) >= statistics.median(means):
            return None
        return Behind(statistics.fmean(bests), len(bests))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(-9, 9).map(lambda n: n / 10)), max_size=60))
def test_running_means_are_those_of_the_formula_also_where_trials_come_to_an_epoch_again(
    values: list[tuple[int, int, float]],
) -> None:
    judge, formula = median(configurations=TWO_SEEDS), _Formula()
    for number, epoch, value in values:
        assert judge.observe(number, epoch, value) == formula.observe(number, epoch, value)


def test_what_is_recorded_counts_as_if_it_had_been_observed() -> None:
    for make in (asha, median):
        observed, recorded = make(), make()
        for number in range(5):
            for epoch in (1, 2, 3):
                observed.observe(number, epoch, float(number))
                recorded.record(number, epoch, float(number))
        assert recorded.observe(5, 3, -1.0) == observed.observe(5, 3, -1.0) == Behind(-1.0, 1)


def test_a_verdict_of_median_stopping_costs_the_same_however_long_the_trials_are() -> None:
    def seconds(epochs: int) -> float:
        judge, began = median(), time.thread_time()
        for epoch in range(1, epochs + 1):
            for number in ONE_SEED:
                judge.observe(number, epoch, 1.0 / epoch)
        return time.thread_time() - began

    seconds(100)
    short, long = (min(seconds(n) for _ in range(3)) for n in (100, 1600))
    assert long / short < 64, "16 times the epochs cost about 16 times as much, not 256 times"


def test_what_is_smaller_is_better_where_the_spec_says_so() -> None:
    judge = asha("min")
    assert judge.observe(0, 1, 1.0) is None
    assert judge.observe(1, 1, 2.0) == Behind(2.0, 1)
