"""Reports waiting to be committed. Those of one attempt that wait together go into one transaction.

That is what makes a thousand small reports a second possible: a commit costs milliseconds, however much is in it.
Every report is answered after its commit and not before. What waits is bounded: beyond that, 429 with Retry-After.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from adadim_core.spec.report import ReportReply
from service.attempts import service
from service.attempts.body import Delivery
from service.database.engine import DATABASE_ERRORS, Database, is_away
from service.errors import ServiceError, TooManyError
from service.telemetry.counters import POINTS, REPORT_BYTES_WAITING, REPORTS, REPORTS_REFUSED, REPORTS_WAITING

logger = logging.getLogger(__name__)

MAX_WAITING = 4_000
"""Reports being read or waiting in one process."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_GROUP = 500
_MAX_GROUP_BYTES = 8 * 1024 * 1024
_MAX_GROUP_POINTS = 50_000
"""A segment is read and sent as a whole: no larger than the largest report."""
_WRITERS = 6
"""Transactions at a time: reports take no more connections than these, however long a lock is waited for."""


@dataclass
class _Waiting:
    delivery: Delivery
    answer: asyncio.Future[ReportReply]


class Inbox:
    """The reports one process has taken and not answered yet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: dict[int, deque[_Waiting]] = {}
        """By attempt; each with a task that empties it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers = asyncio.Semaphore(_WRITERS)
        self._reports = self._bytes = 0

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Room for a report of so many bytes, from before its body is read until it is answered.

        Raises TooManyError while there is none.
        """
        if self._reports >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            REPORTS_REFUSED.inc()
            raise TooManyError(
                "The service is behind; deliver the same report again later.", retry_after_s=1, title="Too many reports"
            )
        self._count(1, size)
        try:
            yield
        finally:
            self._count(-1, -size)

    def _count(self, reports: int, size: int) -> None:
        self._reports += reports
        self._bytes += size
        REPORTS_WAITING.inc(reports)
        REPORT_BYTES_WAITING.inc(size)

    async def deliver(self, attempt_id: int, delivery: Delivery) -> ReportReply:
        """Apply a report of an authenticated attempt, which has `room`; returns once it is committed.

        Raises ServiceError as `service.receive_all`.
        """
        waiting = _Waiting(delivery, asyncio.get_running_loop().create_future())
        if attempt_id in self._queues:
            self._queues[attempt_id].append(waiting)
        else:
            self._queues[attempt_id] = deque([waiting])
            task = asyncio.create_task(self._empty(attempt_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _empty(self, attempt_id: int) -> None:
        queue = self._queues[attempt_id]
        try:
            while queue:
                async with self._writers:
                    await self._commit(attempt_id, self._take(queue))
        finally:
            del self._queues[attempt_id]
            for left in queue:
                left.answer.cancel()

    def _take(self, queue: deque[_Waiting]) -> list[_Waiting]:
        group = [queue.popleft()]
        size, points = group[0].delivery.size, group[0].delivery.points
        while queue and len(group) < _MAX_GROUP:
            size += queue[0].delivery.size
            points += queue[0].delivery.points
            if size > _MAX_GROUP_BYTES or points > _MAX_GROUP_POINTS:
                break
            group.append(queue.popleft())
        return group

    async def _commit(self, attempt_id: int, group: list[_Waiting]) -> None:
        try:
            async with self._database.transaction() as session:
                answers = await service.receive_all(session, attempt_id, [one.delivery for one in group])
        except DATABASE_ERRORS as error:
            # While the database does not answer, trying each report by itself would only take longer.
            if len(group) == 1 or is_away(error):
                self._fail(group, error)
                return
            await self._commit_singly(attempt_id, group)
        except ServiceError as problem:
            if len(group) == 1:
                self._fail(group, problem)
            else:
                await self._commit_singly(attempt_id, group)
        except BaseException as error:  # a bug is the request's to answer, not this task's to die of
            self._fail(group, error)
            if not isinstance(error, Exception):
                raise
        else:
            for one, answer in zip(group, answers, strict=True):
                if not isinstance(answer, ServiceError):
                    REPORTS.inc()
                    POINTS.inc(one.delivery.points)
                if one.answer.done():
                    continue  # the client has left
                if isinstance(answer, ServiceError):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)

    async def _commit_singly(self, attempt_id: int, group: list[_Waiting]) -> None:
        """One of them cannot be stored: the others must not fail with it."""
        for one in group:
            await self._commit(attempt_id, [one])

    def _fail(self, group: list[_Waiting], error: BaseException) -> None:
        for one in group:
            if not one.answer.done():
                one.answer.set_exception(error if isinstance(error, Exception) else ConnectionError("stopping"))

    async def close(self) -> None:
        """Commit what is waiting."""
        while self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)
