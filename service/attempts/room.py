"""Room for reports on their way: how many, and how many bytes, one process holds for whom.

Counted as bytes arrive, not as they are declared. No attempt and no owner can take all of it: the others' reports
are taken meanwhile.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from service.errors import TooManyError
from service.telemetry.counters import REPORT_BYTES_WAITING, REPORTS_REFUSED, REPORTS_WAITING

MAX_REPORTS = 4_000
"""Reports being read or waiting in one process."""
MAX_BYTES = 64 * 1024 * 1024
OWNER_SHARE, ATTEMPT_SHARE = 2, 4
"""One owner may have a half of the room, one attempt a quarter."""

_Holder = tuple[Literal["all", "owner", "attempt"], str | int]


@dataclass
class Place:
    """One report's place in the room."""

    _room: "Room"
    _holders: tuple[tuple[_Holder, int], ...]
    """Who holds it, with the share each may have."""
    size: int = 0

    def grow(self, size: int) -> None:
        """So many bytes more have arrived. Raises TooManyError where there is no room for them."""
        for holder, share in self._holders:
            if self._room.sizes[holder] + size > MAX_BYTES // share:
                raise _full(holder)
        self._room.count(self._holders, 0, size)
        self.size += size


@dataclass
class Room:
    """The room of one process."""

    reports: Counter[_Holder] = field(default_factory=Counter)
    sizes: Counter[_Holder] = field(default_factory=Counter)

    @contextmanager
    def place(self, attempt_id: int, owner: str) -> Iterator[Place]:
        """A place for a report, from before its body is read until it is answered. Raises TooManyError."""
        holders: tuple[tuple[_Holder, int], ...] = (
            (("all", 0), 1), (("owner", owner), OWNER_SHARE), (("attempt", attempt_id), ATTEMPT_SHARE),
        )  # fmt: skip
        for holder, share in holders:
            if self.reports[holder] >= MAX_REPORTS // share:
                raise _full(holder)
        place = Place(self, holders)
        self.count(holders, 1, 0)
        try:
            yield place
        finally:
            self.count(holders, -1, -place.size)

    def count(self, holders: tuple[tuple[_Holder, int], ...], reports: int, size: int) -> None:
        REPORTS_WAITING.inc(reports)
        REPORT_BYTES_WAITING.inc(size)
        for holder, _ in holders:
            self.reports[holder] += reports
            self.sizes[holder] += size
            if not self.reports[holder]:
                del self.reports[holder], self.sizes[holder]


def _full(holder: _Holder) -> TooManyError:
    REPORTS_REFUSED.inc()
    whose = {"all": "The service is", "owner": "Reports of this owner's experiments are", "attempt": "This attempt is"}
    detail = f"{whose[holder[0]]} behind; deliver the same report again later."
    return TooManyError(detail, retry_after_s=1, title="Too many reports")
