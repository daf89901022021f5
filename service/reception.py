"""Since when this service could receive reports without a break: a worker's silence before that means nothing."""

from datetime import UTC, datetime, timedelta

_LONGEST_GAP = timedelta(seconds=5)
"""A dispatcher that makes no round for longer was asleep, or had no database to store reports in."""


class Reception:
    """Kept up by the dispatcher's rounds. By the wall clock: others stand still while a machine sleeps."""

    def __init__(self) -> None:
        self.since = self._last = datetime.now(UTC)

    def confirm(self) -> None:
        """Confirm that the service runs. After a long gap, or if the clock was set, the count restarts."""
        now = datetime.now(UTC)
        if not timedelta(0) <= now - self._last <= _LONGEST_GAP:
            self.since = now
        self._last = now

    def interrupt(self) -> None:
        """Reports could not be received until now."""
        self.since = self._last = datetime.now(UTC)

    def unbroken_for(self) -> timedelta:
        """For how long reports could have been received."""
        self.confirm()
        return self._last - self.since
