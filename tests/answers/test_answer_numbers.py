"""Numbers as people read them."""

import pytest

from adadim_core.answers.numbers import decimals_for, number, plain, signed


@pytest.mark.parametrize(
    ("metric", "half_width", "decimals"),
    [
        ("knn_top1", 0.02, 3),
        ("knn_top1", 0.0006, 3),
        ("knn_top1", 0.0004, 4),  # which three decimals would show as zero
        ("knn_top1", 0.0, 3),
        ("erank_r", 0.34, 2),
        ("erank_r", 34.0, 0),
        ("erank_r", 0.0, 3),
        ("knn_top1", 1e-17, 3),  # of rounding
    ],
)
def test_an_interval_has_digits_left(metric: str, half_width: float, decimals: int) -> None:
    assert decimals_for(metric, half_width) == decimals


def test_signs() -> None:
    assert (number(-0.25, 2), number(-0.001, 2)) == ("−0.25", "0.00")
    assert (signed(0.25, 1), signed(-0.25, 2), signed(0.001, 2)) == ("+0.2", "−0.25", "0.00")
    assert (plain(-3.14159, "erank_r"), plain(0.98765, "knn_top1")) == ("−3.142", "0.988")
