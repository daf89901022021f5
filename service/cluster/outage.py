"""What the log says of a cluster that does not answer: when that begins, ever more rarely while it lasts, its end.

Everything that waits for the cluster asks it again and again; a line for each try would hide all others.
"""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0


class Outage:
    """Is told of every failure to reach the cluster and of every answer, and logs what is news."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        """When it began; None while the cluster answers."""
        self._quiet_until = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def failed(self, why: str) -> None:
        """The cluster was not reached."""
        now = self._clock()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
            logger.warning("the Ray cluster is away; what needs it waits: %s", why)
        elif now >= self._quiet_until:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            logger.warning("the Ray cluster has been away for %.0f min: %s", (now - self._since) / 60, why)
        else:
            return
        self._quiet_until = now + self._pause_s

    def answered(self) -> None:
        """The cluster was reached."""
        if self._since is not None:
            logger.info("the Ray cluster answers again, after %.0f s", self._clock() - self._since)
            self._since = None
