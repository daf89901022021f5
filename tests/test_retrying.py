"""Waiting times between tries, and the loop that uses them. No test waits."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadim_core.retrying import Backoff, retry


@given(st.floats(0.01, 5), st.floats(1, 100), st.integers(1, 40))
def test_waits_double_up_to_the_longest(first: float, longest: float, failures: int) -> None:
    backoff = Backoff(first, longest)
    for failure in range(failures):
        bound = min(first * 2 ** min(failure, 16), longest)
        assert bound / 2 <= backoff.next() <= bound
    backoff.reset()
    assert backoff.next() <= min(first, longest)


def test_the_other_side_s_wish_counts() -> None:
    assert 7 <= Backoff().next(7) <= 7.5


class Busy(Exception):  # noqa: N818 - a state of the other side
    """It may pass."""


def failing(times: int, calls: list[int]) -> str:
    calls.append(1)
    if len(calls) <= times:
        raise Busy(f"try {len(calls)}")
    return "done"


def test_it_is_tried_until_it_works() -> None:
    calls: list[int] = []
    told, waits = [], []
    result = retry(
        lambda: failing(3, calls),
        Busy,
        deadline=time.monotonic() + 100,
        backoff=Backoff(first=1, longest=1),
        failed=lambda error: told.append(str(error)),
        sleep=waits.append,
    )
    assert (result, told, len(waits)) == ("done", ["try 1", "try 2", "try 3"], 3)


def test_no_try_begins_after_the_deadline() -> None:
    calls: list[int] = []
    with pytest.raises(Busy, match="try 1"):
        retry(lambda: failing(3, calls), Busy, deadline=time.monotonic(), backoff=Backoff(), sleep=pytest.fail)
    with pytest.raises(Busy):
        retry(
            lambda: failing(9, calls), Busy, deadline=time.monotonic() + 5, backoff=Backoff(),
            asked=lambda _: 60.0, sleep=pytest.fail,
        )  # fmt: skip
    assert len(calls) == 2


def test_other_errors_and_an_end_that_is_asked_for_come_through() -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ZeroDivisionError):
        retry(lambda: 1 // 0, Busy, deadline=time.monotonic() + 100, backoff=Backoff(), sleep=pytest.fail)
    with pytest.raises(KeyboardInterrupt):
        retry(lambda: failing(3, []), Busy, deadline=time.monotonic() + 100, backoff=Backoff(), sleep=stop)
