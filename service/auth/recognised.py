"""Callers recognised a moment ago: a token that is used many times a second is looked up once in it.

What is revoked here is forgotten at once; what another replica revokes, or ends in the database, within LIFE_S.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from service.auth.service import Principal

LIFE_S = 1.0
_MOST = 10_000


class Recognised:
    """The callers of one process, by the hashes of their tokens."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[Principal, float]] = {}

    def find(self, token_hash: bytes) -> Principal | None:
        """Who sent this token within the last second, unless it has ended since."""
        principal, until = self._known.get(token_hash, (None, 0.0))
        if principal is None or self._clock() >= until:
            return None
        return None if principal.expires_at is not None and principal.expires_at <= datetime.now(UTC) else principal

    def begin(self) -> Callable[[bytes, Principal], None]:
        """Call before the database is asked; what it gives remembers the answer, unless all was forgotten meanwhile."""
        known, until = self._known, self._clock() + LIFE_S

        def remember(token_hash: bytes, principal: Principal) -> None:
            if len(known) >= _MOST:
                known.clear()
            known[token_hash] = (principal, until)

        return remember

    def forget_all(self) -> None:
        """A token was revoked or a session closed: everyone is looked up again."""
        self._known = {}
