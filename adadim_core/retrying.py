"""Trying again: waiting times that grow, with jitter, and the loop that uses them. Knows of no particular failure."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Backoff:
    """Waiting times between tries: exponential with jitter, so that many processes do not return at once."""

    def __init__(self, first: float = 0.25, longest: float = 15.0) -> None:
        """
        Args:
            first: Seconds after the first failure, at most; half of it at least.
            longest: Seconds to which that grows, doubling with every failure.
        """
        self._first, self._longest, self._failures = first, longest, 0

    def next(self, asked: float | None = None) -> float:
        """Seconds to wait after one more failure.

        Args:
            asked: What the other side asked to wait, which counts if it did.
        """
        bound = min(self._first * 2**self._failures, self._longest)
        self._failures = min(self._failures + 1, 16)
        if asked is not None:
            return asked + random.uniform(0, 0.5)
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """It worked: the next failure counts as the first."""
        self._failures = 0


def retry(
    act: Callable[[], T],
    on: type[E],
    *,
    deadline: float,
    backoff: Backoff,
    asked: Callable[[E], float | None] = lambda _: None,
    failed: Callable[[E], object] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Do something, again and again while it fails with one kind of error, until a deadline.

    Args:
        act: What to do. What it raises beside `on` is raised at once.
        on: The errors that pass.
        deadline: In time.monotonic(); no try begins after it.
        backoff: The waiting times.
        asked: How long an error asks to wait, if it does.
        failed: Told of an error after which it is tried again.
        sleep: Waits that many seconds; what it raises ends the tries.

    Raises:
        E: the last error, where another wait would pass the deadline.
    """
    while True:
        try:
            return act()
        except on as error:
            wait = backoff.next(asked(error))
            if time.monotonic() + wait >= deadline:
                raise
            failed(error)
        sleep(wait)
