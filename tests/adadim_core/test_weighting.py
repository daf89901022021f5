"""alpha and beta over training: every policy, its bounds, its state."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.spec.objective import ObjectiveSpec
from adadim_core.spec.weightings import AdaptiveWeighting, CosineWeighting, FixedWeighting, LinearWeighting
from adadim_core.weighting import AlphaPolicy, alpha_from_rank, weights_at


def observed(policy: AlphaPolicy, *ranks: float, n: int = 101, d: int = 200) -> list[float]:
    alphas = []
    for epoch, rank in enumerate(ranks):
        policy.observe(rank, n=n, d=d, epoch=epoch)
        alphas.append(policy.alpha(0.5))
    return alphas


def test_normalizers_on_isotropic_embeddings():
    # N = 256, D = 2048: a batch cannot fill more than 255 dimensions, so the choice matters.
    assert alpha_from_rank(250.8, n=256, d=2048) == pytest.approx(0.98, abs=0.005)
    assert alpha_from_rank(250.8, n=256, d=2048, normalizer="dim") == pytest.approx(0.12, abs=0.005)
    assert alpha_from_rank(250.8, n=256, d=2048, normalizer="log") == pytest.approx(0.997, abs=0.001)
    assert alpha_from_rank(32, n=256, d=64) == pytest.approx(0.5)


@given(
    rank=st.floats(0, 1e6),
    n=st.integers(2, 5000),
    d=st.integers(1, 5000),
    normalizer=st.sampled_from(["min", "dim", "log", "gain"]),
)
def test_alpha_is_a_share(rank, n, d, normalizer):
    assert 0 <= alpha_from_rank(rank, n=n, d=d, normalizer=normalizer) <= 1


@given(a=st.floats(1, 300), b=st.floats(1, 300), normalizer=st.sampled_from(["min", "dim", "log", "gain"]))
def test_alpha_rises_with_the_rank(a, b, normalizer):
    low, high = sorted([a, b])
    assert alpha_from_rank(low, n=256, d=512, normalizer=normalizer) <= alpha_from_rank(
        high, n=256, d=512, normalizer=normalizer
    )


def test_adaptive_follows_the_rank_within_floor_and_ceiling():
    policy = AlphaPolicy(AdaptiveWeighting(floor=0.2, ceiling=0.7))
    assert policy.alpha(0) == 0.2
    assert observed(policy, 50, 5, 95) == pytest.approx([0.5, 0.2, 0.7])


def test_adaptive_smooths_after_the_first_measurement():
    policy = AlphaPolicy(AdaptiveWeighting(smoothing=0.75))
    assert observed(policy, 80, 40) == pytest.approx([0.8, 0.75 * 0.8 + 0.25 * 0.4])


def test_adaptive_keeps_alpha_where_the_rank_is_not_a_number():
    policy = AlphaPolicy(AdaptiveWeighting())
    assert observed(policy, 60, math.nan, math.inf) == pytest.approx([0.6, 0.6, 0.6])
    assert math.isnan(alpha_from_rank(math.nan, n=8, d=8))


def test_adaptive_measures_at_its_cadence():
    policy = AlphaPolicy(AdaptiveWeighting(every_epochs=3, batches=2))
    assert [policy.measurement_batches(epoch, steps=100, batch_size=8) for epoch in range(5)] == [2, 0, 0, 2, 0]


@given(steps=st.integers(1, 10_000), batches=st.integers(1, 1000))
def test_measuring_is_a_small_share_of_an_epoch(steps, batches):
    measured = AlphaPolicy(AdaptiveWeighting(batches=batches)).measurement_batches(0, steps=steps, batch_size=8)
    assert 1 <= measured <= batches
    assert measured == 1 or measured <= steps / 20
    assert measured == batches or measured + 1 > steps / 20


@pytest.mark.parametrize("spec", [FixedWeighting(alpha=0.3), LinearWeighting(), CosineWeighting()])
def test_other_policies_measure_nothing_and_ignore_ranks(spec):
    policy = AlphaPolicy(spec)
    before = policy.alpha(0.25)
    policy.observe(77.0, n=101, d=200, epoch=0)
    assert policy.measurement_batches(0, steps=100, batch_size=8) == 0
    assert policy.alpha(0.25) == before


def test_schedules_run_from_start_to_end():
    linear = AlphaPolicy(LinearWeighting(start=0.9, end=0.1))
    cosine = AlphaPolicy(CosineWeighting(start=0.0, end=1.0))
    assert [linear.alpha(p) for p in (0, 0.25, 1)] == pytest.approx([0.9, 0.7, 0.1])
    assert [cosine.alpha(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.1464466, 0.5, 1])
    assert AlphaPolicy(FixedWeighting(alpha=0.3)).alpha(0.9) == 0.3


@given(start=st.floats(0, 1), end=st.floats(0, 1), progress=st.floats(0, 1))
def test_schedules_stay_between_their_ends(start, end, progress):
    for spec in (LinearWeighting(start=start, end=end), CosineWeighting(start=start, end=end)):
        assert min(start, end) - 1e-12 <= AlphaPolicy(spec).alpha(progress) <= max(start, end) + 1e-12


def test_state_goes_on_where_it_stopped():
    policy = AlphaPolicy(AdaptiveWeighting(smoothing=0.5))
    observed(policy, 80, 40)
    other = AlphaPolicy(AdaptiveWeighting(smoothing=0.5))
    other.load_state_dict(policy.state_dict())
    assert observed(other, 20) == observed(policy, 20)


def test_a_state_is_brought_within_the_bounds_of_the_spec():
    source = AlphaPolicy(AdaptiveWeighting())
    assert observed(source, 80) == [0.8]
    for spec, expected in ((AdaptiveWeighting(ceiling=0.5), 0.5), (AdaptiveWeighting(floor=0.9), 0.9)):
        policy = AlphaPolicy(spec)
        policy.load_state_dict(source.state_dict())
        assert policy.alpha(0) == expected
        policy.load_state_dict(AlphaPolicy(spec).state_dict())
        assert policy.alpha(0) == spec.floor


def test_gain_is_zero_until_the_rank_rises_over_its_lowest():
    policy = AlphaPolicy(AdaptiveWeighting(normalizer="gain"))
    assert observed(policy, 70, 40, 20, 60, 100, 20) == pytest.approx([0, 0, 0, 0.5, 1, 0])
    rising = AlphaPolicy(AdaptiveWeighting(normalizer="gain"))
    assert observed(rising, 20, 60, 100) == pytest.approx([0, 0.5, 1])


def test_pooled_rows_are_measured_on_as_many_batches_as_hold_them():
    policy = AlphaPolicy(AdaptiveWeighting(rows=100, batches=2))
    batches = [policy.measurement_batches(0, steps=steps, batch_size=32) for steps in (2, 4, 400)]
    assert batches == [2, 4, 4]


def weights(steps: int, weighting: Any = None, policy: AlphaPolicy | None = None, **term: Any) -> list[tuple]:
    """alpha and beta at the start of each of five epochs of two steps, and at the last step."""
    fields = {"mutual_information": term, **({"weighting": weighting} if weighting else {})}
    spec = ObjectiveSpec.model_validate(fields)
    policy = policy or AlphaPolicy(spec.weighting)
    return [weights_at(step, spec, policy, steps_per_epoch=2, epochs=5) for step in range(steps)]


def betas(weighting: Any, **term: Any) -> list[float]:
    return [beta for _, beta in weights(10, weighting, **term)]


HALF = {"policy": "fixed", "alpha": 0.5}
RISING = {"policy": "linear", "start": 0.0, "end": 1.0}


def test_beta_is_gamma_alpha_with_sign_and_start():
    assert betas(HALF, gamma=0.2, start_epoch=2) == pytest.approx([0.0] * 4 + [0.1] * 6)
    assert betas(HALF, gamma=0.2, sign="reward") == pytest.approx([-0.1] * 10)
    assert betas(HALF, gamma=0.0) == [0.0] * 10
    rising = [step / 9 for step in range(10)]
    assert weights(10, RISING, gamma=0.2) == [pytest.approx((alpha, 0.2 * alpha)) for alpha in rising]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("fixed", [0.3] * 10),
        ("linear", [0.3 * step / 9 for step in range(10)]),
        ("cosine", [0.15 * (1 - math.cos(math.pi * step / 9)) for step in range(10)]),
    ],
)
def test_beta_has_a_course_of_its_own(schedule, expected):
    assert betas(HALF, gamma=0.3, schedule=schedule) == pytest.approx(expected)
    lagging = betas(HALF, gamma=0.3, schedule=schedule, lag_epochs=2)
    assert lagging == pytest.approx([0.0] * 4 + expected[:6])


def test_beta_lags_alpha_by_epochs():
    assert betas(RISING, gamma=1.0, lag_epochs=1) == pytest.approx([0, 0, *(step / 9 for step in range(8))])
    adaptive = AlphaPolicy(AdaptiveWeighting())
    found = []
    for epoch, rank in enumerate([10, 20, 30, 40]):  # each epoch knows what was measured before it
        adaptive.observe(rank, n=101, d=200, epoch=epoch)
        found += weights(2 * epoch + 2, policy=adaptive, gamma=1.0, lag_epochs=2)[-2:]
    assert found == [
        pytest.approx((alpha, beta)) for alpha, beta in [(0.1, 0), (0.2, 0), (0.3, 0.1), (0.4, 0.2)] for _ in "ab"
    ]


def test_a_state_that_kept_the_last_alpha_only_goes_on():
    policy = AlphaPolicy(AdaptiveWeighting(smoothing=0.5))
    policy.load_state_dict({"adaptive_alpha": 0.4})
    assert policy.alpha(0) == 0.4
    assert observed(policy, 80) == pytest.approx([0.6])
