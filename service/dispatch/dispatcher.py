"""The lease loop: finds experiments with something to do and works on them, any number of replicas at a time.

Owns tasks, leases and their heartbeats. What a step does is in dispatch/service.py.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from adadim_core.retrying import Backoff
from service.cluster.jobs import ClusterUnavailable, JobRefused
from service.context import Context
from service.database import notify
from service.database.engine import DATABASE_ERRORS, is_away
from service.database.tables import Attempt, Experiment
from service.dispatch import closing, repository, service
from service.queue import service as queue
from service.telemetry import counters, records, tracing

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_PACE_S = 0.1
"""Between two looks: a hundred submissions a second need no hundred looks."""
_RECONCILE_S = 10.0
_BEAT_S = repository.LEASE.total_seconds() / 3
_MAX_TASKS = 32
_SUBMIT_FOR_S = 60.0
_CLOSE_AFTER = timedelta(seconds=5)
_CLOSE_FOR_S = 90.0


class Dispatcher:
    """Runs the dispatch loop of one replica until it is stopped."""

    def __init__(self, context: Context, url: str) -> None:
        self._context = context
        self._url = url
        self._tasks: dict[asyncio.Task[None], tuple[int, UUID]] = {}
        """What is being worked on: experiment and lease."""
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to dispatch, in tasks of its own: a cluster that is slow to close attempts delays no new one."""
        loops = (self._when_notified(self._lease_work), self._when_notified(self._close_attempts), self._reconcile())
        self._loops = [asyncio.create_task(loop, name="dispatcher") for loop in loops]

    async def stop(self) -> None:
        """Stop, and give the leases back; those that cannot be given back expire by themselves."""
        leases = list(self._tasks.values())
        tasks = [*self._loops, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for experiment_id, lease in leases:  # the next dispatcher should not wait for them to expire
            await self._give_back(experiment_id, lease)

    async def _when_notified(self, step: Callable[[], Awaitable[None]]) -> None:
        with self._context.listener.subscribe(notify.DISPATCH) as wake:
            while True:
                await self._run_guarded(step)
                self._context.reception.confirm()
                await asyncio.sleep(_PACE_S)
                await notify.wait(wake, _POLL_S)

    async def _reconcile(self) -> None:
        told: set[str] = set()
        while True:
            await self._run_guarded(lambda: closing.stop_unknown_jobs(self._context, told))
            await asyncio.sleep(_RECONCILE_S)

    async def _run_guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Nothing but `stop` ends a loop: nothing would be dispatched ever after."""
        try:
            await step()
        except ClusterUnavailable:
            pass  # what needs the cluster waits for it; the state of each experiment says so
        except DATABASE_ERRORS as error:
            if is_away(error):
                self._context.reception.interrupt()
            logger.warning("dispatch: the database is away, trying again: %s", error)
        except Exception:
            logger.exception("dispatch failed; trying again")

    async def _lease_work(self) -> None:
        free = _MAX_TASKS - len(self._tasks)
        if free <= 0:
            return
        async with self._context.database.transaction() as session:
            due = await repository.lease_due(session, free)
        for experiment_id, lease in due:
            self._spawn(experiment_id, lease, service.check(self._context, experiment_id, lease))
        if self._context.jobs.address is None:
            return  # the cluster is still starting: what is queued stays queued
        async with self._context.database.transaction() as session:
            lease = uuid4()
            queued = await queue.lease(session, self._context.settings, lease, repository.LEASE)
            started = [(row, *await service.start_attempt(session, row)) for row in queued]
        for experiment, attempt, code in started:
            self._spawn(experiment.id, lease, self._submit(experiment, lease, attempt, code), attempt.id)

    def _spawn(
        self, experiment_id: int, lease: UUID, work: Coroutine[Any, Any, None], attempt_id: int | None = None
    ) -> None:
        with records.bound(experiment_id=experiment_id, attempt_id=attempt_id):  # the task keeps them
            task = asyncio.create_task(self._with_lease(experiment_id, lease, work))
        self._tasks[task] = (experiment_id, lease)
        task.add_done_callback(self._tasks.pop)

    async def _with_lease(self, experiment_id: int, lease: UUID, work: Coroutine[Any, Any, None]) -> None:
        """Do the work while keeping its lease alive; give the lease back at the end, whatever happened."""
        heart = asyncio.create_task(self._keep_lease(experiment_id, lease))
        try:
            with tracing.span("dispatch", **{"adadim.experiment_id": experiment_id}):
                await work
        except service.LeaseLost:
            counters.LEASE_LOSSES.inc()
            logger.info("experiment %d is another replica's now", experiment_id)
        except DATABASE_ERRORS as error:
            logger.warning("experiment %d: the database is away: %s", experiment_id, error)
        except Exception:
            logger.exception("experiment %d: dispatch failed; trying again when the lease is over", experiment_id)
            return
        finally:
            heart.cancel()
        await self._give_back(experiment_id, lease)

    async def _give_back(self, experiment_id: int, lease: UUID) -> None:
        with contextlib.suppress(*DATABASE_ERRORS):
            async with self._context.database.transaction() as session:
                await repository.release(session, experiment_id, lease)

    async def _keep_lease(self, experiment_id: int, lease: UUID) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._context.database.transaction() as session:
                    if not await repository.extend_lease(session, experiment_id, lease):
                        return

    async def _submit(self, experiment: Experiment, lease: UUID, attempt: Attempt, code: str) -> None:
        """Hand an attempt to Ray, patiently: the code exists in this task only."""
        began = time.monotonic()
        backoff, give_up_at = Backoff(first=0.5, longest=5.0), began + _SUBMIT_FOR_S
        while True:
            try:
                await service.submit(self._context, experiment, lease, attempt, code, self._url)
                break
            except JobRefused as error:
                logger.warning("experiment %d: %s", experiment.id, error)
                await service.apply_refused(self._context, experiment.id, lease, attempt.id, str(error))
                return
            except ClusterUnavailable as error:
                why = f"Ray has not taken its job yet: {error}"
                await service.tell_of_submission(self._context, experiment.id, lease, why)
                if time.monotonic() >= give_up_at:
                    return
                if error.answered:
                    logger.warning("experiment %d: %s", experiment.id, error)
            await asyncio.sleep(backoff.next())
        counters.DISPATCH_SECONDS.observe(time.monotonic() - began)
        await service.mark_submitted(self._context, experiment.id, lease, attempt.id)
        logger.info("experiment %d: attempt %d is Ray job %s", experiment.id, attempt.number, attempt.submission_id)

    async def _close_attempts(self) -> None:
        async with self._context.database.transaction() as session:
            over = await repository.attempts_to_close(session, _CLOSE_AFTER, 8)
        await asyncio.gather(*(self._run_guarded(partial(self._close, attempt)) for attempt in over))

    async def _close(self, attempt: Attempt) -> None:
        """One attempt that never closes must not delay the others."""
        try:
            async with asyncio.timeout(_CLOSE_FOR_S):
                await closing.close_attempt(self._context, attempt)
        except TimeoutError:
            logger.warning("%s is not seen off within %.0f s; trying again", attempt.submission_id, _CLOSE_FOR_S)
