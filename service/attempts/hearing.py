"""Since when this service has been able to hear workers without a break: their silence before that means nothing."""

from datetime import UTC, datetime, timedelta

_LONGEST_GAP = timedelta(seconds=5)
"""Whoever does not go round for longer was asleep, or had no database to write down what was heard."""


class Hearing:
    """Kept up by the dispatcher's rounds. By the wall clock: others stand still while a machine sleeps."""

    def __init__(self) -> None:
        self.since = self._last = datetime.now(UTC)

    def go_on(self) -> None:
        """The service is at work. Long after the last call, or with a clock that was set, it begins anew."""
        now = datetime.now(UTC)
        if not timedelta(0) <= now - self._last <= _LONGEST_GAP:
            self.since = now
        self._last = now

    def break_off(self) -> None:
        """Workers could not be heard until now."""
        self.since = self._last = datetime.now(UTC)

    def lasts(self) -> timedelta:
        """For how long workers have been heard."""
        self.go_on()
        return self._last - self.since
