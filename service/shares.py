"""Places for work that is bounded at once in one process, shared fairly among those who ask.

No owner can take all places, nor all of the line before them: the others' work goes on meanwhile. Owns the counting;
what is bounded, and by how much, is said where it is done.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.errors import TooManyError
from service.telemetry.counters import PLACES_REFUSED, PLACES_TAKEN


@dataclass(frozen=True)
class _Waiting:
    owner: str
    turn: asyncio.Future[None]


class Shares:
    """Places of one kind.

    Args:
        what: what a place is for, as operators and those who are refused read it: "logs".
        places: how many there are.
        each: how many of them one owner may have.
        line: how many of one owner's requests may wait for a place; 0: none waits.
        patience_s: how long they wait.
        retry_after_s: when those who are refused may come again.
    """

    def __init__(
        self, what: str, places: int, *, each: int, line: int = 0, patience_s: float = 30.0, retry_after_s: int = 10
    ) -> None:
        self.what, self.places, self.each, self.line = what, places, each, line
        self._patience_s, self._retry_after_s = patience_s, retry_after_s
        self.taken: Counter[str] = Counter()
        """Places by owner."""
        self._waiting: list[_Waiting] = []
        self._turns = itertools.count()
        self._last_turn: dict[str, int] = {}
        """When each owner who has a place or waits last got one."""

    def take(self, owner: str) -> None:
        """Take a place now; `give_back` it. Raises TooManyError where there is none."""
        if self.taken[owner] >= self.each:
            raise self._over(owner)
        if self.taken.total() >= self.places:
            raise self._full()
        self._count(owner, 1)

    def give_back(self, owner: str) -> None:
        """Give a place to whoever has waited: of those with the fewest places whose owner had no turn for longest."""
        self._count(owner, -1)
        able = [w for w in self._waiting if self.taken[w.owner] < self.each and not w.turn.done()]
        if able:
            chosen = min(able, key=lambda w: (self.taken[w.owner], self._last_turn.get(w.owner, -1)))
            self._waiting.remove(chosen)
            self._count(chosen.owner, 1)
            chosen.turn.set_result(None)
        self._forget()

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """A place, waited for in turn. Raises TooManyError where too many of this owner's wait, or it takes long."""
        if self.line and (self.taken[owner] >= self.each or self.taken.total() >= self.places):
            await self._wait(owner)
        else:
            self.take(owner)
        try:
            yield
        finally:
            self.give_back(owner)

    async def _wait(self, owner: str) -> None:
        if sum(waiting.owner == owner for waiting in self._waiting) >= self.line:
            raise self._over(owner)
        mine = _Waiting(owner, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._patience_s):
                await mine.turn
        except BaseException as error:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:  # its turn came at the same moment
                self.give_back(owner)
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise

    def _count(self, owner: str, places: int) -> None:
        self.taken[owner] += places
        PLACES_TAKEN.labels(self.what).inc(places)
        if places > 0:
            self._last_turn[owner] = next(self._turns)

    def _forget(self) -> None:
        self.taken = +self.taken
        known = {*self.taken, *(waiting.owner for waiting in self._waiting)}
        self._last_turn = {owner: turn for owner, turn in self._last_turn.items() if owner in known}

    def _over(self, owner: str) -> TooManyError:
        PLACES_REFUSED.labels(self.what, "owner").inc()
        detail = f"{owner} has {self.each} {self.what} under way here, which is the limit for one; try again later."
        return TooManyError(detail, retry_after_s=self._retry_after_s, title=f"Too many {self.what}")

    def _full(self) -> TooManyError:
        PLACES_REFUSED.labels(self.what, "all").inc()
        detail = f"{self.places} {self.what} are under way here, which is the limit; try again later."
        return TooManyError(detail, retry_after_s=self._retry_after_s, title=f"Too many {self.what}")


class PlacedResponse(StreamingResponse):
    """A streamed answer that has a place from the moment it is made until it is sent, or its reader has gone."""

    def __init__(self, shares: Shares, owner: str, content: Any, **options: Any) -> None:
        shares.take(owner)
        self._shares, self._owner = shares, owner
        super().__init__(content, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._shares.give_back(self._owner)
            if isinstance(self.body_iterator, AsyncGenerator):  # at once: it must not outlive its reader
                await self.body_iterator.aclose()
