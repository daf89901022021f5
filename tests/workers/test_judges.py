"""ASHA and median stopping on configurations: with one seed as published, with several by the means of replicates."""

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
    st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=EPOCHS, max_size=EPOCHS), min_size=6, max_size=6
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


def test_what_is_smaller_is_better_where_the_spec_says_so() -> None:
    judge = asha("min")
    assert judge.observe(0, 1, 1.0) is None
    assert judge.observe(1, 1, 2.0) == Behind(2.0, 1)
