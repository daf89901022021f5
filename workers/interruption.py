"""Ending early: a signal, or the service's order, becomes `Interrupted` in the main thread.

Owns the driver's handling of SIGTERM and SIGINT. What is saved and said then is run.py's and __main__.py's.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The run should end. Not an Exception: no library in between may catch it and continue."""


class Interruption:
    """Raises `Interrupted` in the main thread when asked to, within `raising` and until disarmed."""

    def __init__(self) -> None:
        self.reason = ""
        self.at_once = False
        """No time to save: this run has no say any more."""
        self._armed = True
        self._deferred = True

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Ray replaces the handlers in ray.init: install them again after it."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def request(self, reason: str, *, at_once: bool = False) -> None:
        """Interrupt the main thread, from any other. `at_once`: without waiting for trials to save."""
        if self._armed:
            self.at_once = self.at_once or at_once
            self.reason = self.reason or reason
            # a signal, because only that ends a blocking call
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Where `Interrupted` may be raised at any time, at once if it was asked for already. The caller catches it."""
        with self._set(deferred=False):
            self.check()
            yield

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it only `check` raises: an exception out of a signal handler breaks Ray's native calls."""
        with self._set(deferred=True):
            yield

    @contextmanager
    def _set(self, *, deferred: bool) -> Iterator[None]:
        before = self._deferred
        try:
            self._deferred = deferred
            yield
        finally:
            self._deferred = before

    def check(self) -> None:
        """Raise `Interrupted` if it was asked for."""
        if self.reason:
            raise Interrupted

    def disarm(self) -> None:
        """The run is ending by now: further signals change nothing."""
        self._armed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._armed:
            self.reason = self.reason or f"received {signal.Signals(number).name}"
            if not self._deferred:
                raise Interrupted
