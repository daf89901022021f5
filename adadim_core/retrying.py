"""Retries: exponential back-off with jitter, and the loop that uses it. Independent of any particular failure."""

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
            first: Most seconds after the first failure; the least is half of it.
            longest: Seconds to which that grows, doubling with every failure.
        """
        self._first, self._longest, self._failures = first, longest, 0

    def next(self, asked: float | None = None) -> float:
        """Seconds to wait after one more failure.

        Args:
            asked: The wait that the other side asked for, which takes precedence.
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
    """Call a function until it succeeds, as long as it fails with one kind of error, until a deadline.

    Args:
        act: The function. Errors other than `on` are raised at once.
        on: The errors after which it is called again.
        deadline: In time.monotonic(); no try begins after it.
        backoff: The waiting times.
        asked: The wait that an error asks for, if any.
        failed: Called with each error that is followed by another try.
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
