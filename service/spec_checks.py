"""Checks of specs: in one thread beside the event loop, owners by turns, each with a budget of processor time.

The size of a spec bounds what one check costs (adadim_core/spec): tens of milliseconds. Owns who is checked when, and
who has to wait; a check whose client has left is not begun.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from service.errors import TooManyError
from service.rate import RateLimiter
from service.telemetry.counters import SPEC_CHECK_SECONDS, SPEC_CHECKS_REFUSED

MAX_WAITING = 8
"""Checks of one owner at a time."""
SHARE = 0.25
"""Seconds of a processor that an owner's checks may take per second; thousands of ordinary specs a minute."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Check:
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class SpecChecks:
    """The checks of one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting: dict[str, deque[_Check]] = {}
        """By owner, whose turn is next first."""
        self._spent = RateLimiter(SHARE, clock=clock)
        # One thread: Python runs one at a time, and reports wait for this one no longer than for a time slice.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spec-check")
        self._turns: asyncio.Task[None] | None = None

    async def run(self, owner: str, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises, once it was this owner's turn. One that is cancelled does not take a turn.

        Raises TooManyError where the owner has too many checks waiting, or has spent more than its share.
        """
        queue = self._waiting.get(owner)
        if queue is not None and len(queue) >= MAX_WAITING:
            raise _refused(f"{MAX_WAITING} specs of {owner} wait to be checked, which is the limit", 1)
        if wait := self._spent.take(owner.encode(), 0.0):
            raise _refused(f"The checks of {owner}'s specs have taken more than their share of the processor", wait)
        check = _Check(work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(owner, deque()).append(check)
        if self._turns is None:
            self._turns = asyncio.create_task(self._take_turns(), name="spec-checks")
        answer: _T = await check.answer
        return answer

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                owner = next(iter(self._waiting))
                queue = self._waiting.pop(owner)
                check = queue.popleft()
                if queue:
                    self._waiting[owner] = queue  # behind all others
                if check.answer.done():  # its client has left
                    continue
                answer, seconds = await loop.run_in_executor(self._thread, _timed, check.work)
                self._spent.charge(owner.encode(), seconds)
                SPEC_CHECK_SECONDS.inc(seconds)
                if check.answer.done():
                    continue
                if isinstance(answer, Exception):
                    check.answer.set_exception(answer)
                else:
                    check.answer.set_result(answer)
        finally:
            self._turns = None


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What work returns, or raises as a value; and the seconds of processor time it took."""
    started = time.thread_time()
    try:
        answer = work()
    except Exception as error:  # noqa: BLE001 - whoever asked gets it
        answer = error
    return answer, time.thread_time() - started


def _refused(reason: str, wait: float) -> TooManyError:
    SPEC_CHECKS_REFUSED.inc()
    seconds = max(math.ceil(wait), 1)
    return TooManyError(f"{reason}; go on in {seconds} s.", retry_after_s=seconds, title="Too many specs")
