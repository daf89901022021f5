"""Reports waiting to be committed. Those that wait together, of however many attempts, go into one transaction.

That is what makes thousands of running trials possible: a commit costs milliseconds, however much is in it. Every
report is answered after its commit and not before. How much may wait is room.py's.

Small reports, heartbeats and outcomes among them, share a lane in which nobody waits for a lock: an experiment that is
locked, or an attempt with much to store, is dealt with by itself beside it.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adadim_core.spec.report import ReportReply
from service.attempts.body import Delivery
from service.attempts.receiving import receive, receive_plain
from service.attempts.room import Room
from service.database.engine import DATABASE_ERRORS, Database, is_away
from service.errors import ServiceError
from service.rate import RateLimiter
from service.telemetry.counters import POINTS, REPORTS

logger = logging.getLogger(__name__)

_TRANSACTIONS_A_SECOND = 5
"""Of small reports of several attempts, under steady load: what comes in between is gathered. After a quiet time there
is no wait, and none for an attempt that reports alone."""
_MAX_GROUP = 500
_MAX_GROUP_BYTES = 8 * 1024 * 1024
_MAX_GROUP_POINTS = 50_000
"""A segment is read and sent as a whole: no larger than the largest report."""
_LARGE_BYTES = 64 * 1024
"""An attempt with more waiting than this has a transaction of its own."""
_WRITERS = 5
"""Such transactions at a time: reports take no more connections than these and one, however long a lock is held."""
_CLOSE_S = 10.0
"""What is not committed within this when the service stops is delivered again to the next one."""


@dataclass
class _Waiting:
    delivery: Delivery
    answer: asyncio.Future[ReportReply]


class Inbox:
    """The reports one process has taken and not answered yet."""

    def __init__(self, database: Database) -> None:
        self.room = Room()
        self._database = database
        self._waiting: dict[int, deque[_Waiting]] = {}
        """By attempt, the one that waits longest first."""
        self._busy: set[int] = set()
        """Attempts with a transaction in progress: their reports are applied in order."""
        self._pace = RateLimiter(_TRANSACTIONS_A_SECOND)
        self._last: set[int] = set()
        """Whose reports the last transaction of small ones held."""
        self._writers = asyncio.Semaphore(_WRITERS)
        self._small_lane: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        """No transaction begins any more."""

    async def deliver(self, attempt_id: int, delivery: Delivery) -> ReportReply:
        """Apply a report of an authenticated attempt; returns once it is committed.

        Raises ServiceError as `receiving.receive` has it, ConnectionError once the service stops.
        """
        if self._closing:
            raise ConnectionError("stopping")
        waiting = _Waiting(delivery, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(attempt_id, deque()).append(waiting)
        self._go_on(attempt_id)
        return await waiting.answer

    def _go_on(self, *attempts: int) -> None:
        """Start transactions for waiting reports, of the given attempts or of all."""
        if self._closing:
            return
        for attempt_id in attempts or [*self._waiting]:
            if attempt_id in self._waiting and attempt_id not in self._busy and self._is_large(attempt_id):
                self._spawn(self._commit_alone(attempt_id, self._take([attempt_id])[attempt_id]))
        if self._small_lane is None and self._waiting.keys() - self._busy:
            self._small_lane = self._spawn(self._commit_small())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="inbox")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_large(self, attempt_id: int) -> bool:
        size = 0
        for waiting in self._waiting[attempt_id]:
            size += waiting.delivery.size
            if size > _LARGE_BYTES:
                return True
        return False

    def _take(self, attempts: Iterable[int]) -> dict[int, list[_Waiting]]:
        """What one transaction holds of these attempts, which are busy from now on."""
        group: dict[int, list[_Waiting]] = {}
        reports = size = points = 0
        for attempt_id in attempts:
            queue = self._waiting[attempt_id]
            taken: list[_Waiting] = []
            while queue and reports < _MAX_GROUP:
                size += queue[0].delivery.size
                points += queue[0].delivery.points
                if reports and (size > _MAX_GROUP_BYTES or points > _MAX_GROUP_POINTS):
                    break
                taken.append(queue.popleft())
                reports += 1
            if not queue:
                del self._waiting[attempt_id]
            if not taken:
                break
            group[attempt_id] = taken
            self._busy.add(attempt_id)
        return group

    async def _commit_small(self) -> None:
        try:
            while self._waiting.keys() - self._busy:
                if self._waiting.keys() != self._last and (wait := self._pace.take(b"")):
                    await asyncio.sleep(wait)
                    continue
                group = self._take([n for n in self._waiting if n not in self._busy and not self._is_large(n)])
                if group:
                    self._last = {*group}
                    await self._commit_together(group)
                self._go_on()
        finally:
            self._small_lane = None

    async def _commit_together(self, group: dict[int, list[_Waiting]]) -> None:
        done: set[int] = set()
        try:
            async with self._database.autocommit(of_report=True) as connection:
                answers = await receive_plain(connection, _deliveries(group))
            for attempt_id, found in answers.items():
                _answer(group[attempt_id], found)
            done = {*answers}
        except DATABASE_ERRORS as error:
            if is_away(error):  # trying each by itself would only take longer
                _fail(group, error)
                done = {*group}
        except BaseException as error:  # a bug is the requests' to answer, not this task's to die of
            _fail(group, error)
            done = {*group}
            if not isinstance(error, Exception):
                raise
        finally:
            self._busy -= done
        for attempt_id in group.keys() - done:  # it has more to say, is locked, or is one that cannot be stored
            self._spawn(self._commit_alone(attempt_id, group[attempt_id]))

    async def _commit_alone(self, attempt_id: int, waiting: list[_Waiting]) -> None:
        """Reports of one attempt: together, or one by one where one of them cannot be stored."""
        try:
            async with self._writers:
                try:
                    await self._commit(attempt_id, waiting)
                except DATABASE_ERRORS as error:
                    if len(waiting) == 1 or is_away(error):
                        raise
                    for one in waiting:
                        try:
                            await self._commit(attempt_id, [one])
                        except DATABASE_ERRORS as its_error:
                            _fail({attempt_id: [one]}, its_error)
        except BaseException as error:
            _fail({attempt_id: waiting}, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._busy.discard(attempt_id)
            self._go_on()

    async def _commit(self, attempt_id: int, waiting: Sequence[_Waiting]) -> None:
        async with self._database.transaction(of_report=True) as session:
            answers = await receive(session, attempt_id, [one.delivery for one in waiting])
        _answer(waiting, answers)

    async def close(self) -> None:
        """Commit what is waiting, as far as it goes in a while; the rest is refused, and delivered again later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        left = {attempt_id: [*waiting] for attempt_id, waiting in self._waiting.items()}
        _fail(left, ConnectionError("stopping"))
        self._waiting.clear()


def _deliveries(group: Mapping[int, list[_Waiting]]) -> dict[int, list[Delivery]]:
    return {attempt_id: [one.delivery for one in waiting] for attempt_id, waiting in group.items()}


def _answer(waiting: Sequence[_Waiting], answers: Sequence[ReportReply | ServiceError]) -> None:
    """They are committed, or refused."""
    for one, answer in zip(waiting, answers, strict=True):
        if not isinstance(answer, ServiceError):
            REPORTS.inc()
            POINTS.inc(one.delivery.points)
        if one.answer.done():
            continue  # the client has left
        if isinstance(answer, ServiceError):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)


def _fail(group: Mapping[int, Sequence[_Waiting]], error: BaseException) -> None:
    shown = error if isinstance(error, Exception) else ConnectionError("stopping")
    for waiting in group.values():
        for one in waiting:
            if not one.answer.done():
                one.answer.set_exception(shown)
