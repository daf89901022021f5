"""Moves points from segments into chunks in the background, drops what is merged, and ages points out.

Any number of replicas may run it: an advisory lock gives each experiment to one of them, and everything a merge
changes is one transaction, so that a reader or a crash sees all of it or nothing.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable
from itertools import pairwise

from sqlalchemy.ext.asyncio import AsyncSession

from service.database.engine import DATABASE_ERRORS, Database
from service.experiments import repository as experiments
from service.metrics import codec, repository
from service.metrics.chunks import NewChunk, Span, build, place
from service.metrics.points import Points, split_key
from service.telemetry.counters import POINTS_UNMERGED
from service.trials import repository as trials

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
_LEAST_POINTS = 50_000
"""Worth a merge. More, where they spread over many series."""
_POINTS_A_SERIES = 32
_MOST_POINTS = 1_000_000
"""Of one merge, and of what readers may find unmerged before one is due in any case."""
_MOST_SEGMENTS = 1_000
_IDLE_S = 10.0
"""Without a report for this long, everything is merged."""
_KEEP_SEGMENTS_S = 300.0
"""How long merged segments are kept for live clients; a client that resumes later reads the series again."""
_AGE_OUT_EVERY_S = 600.0
_RETRY_S = 60.0
"""After a merge of an experiment failed."""


class Merger:
    """The background task of one service."""

    def __init__(self, database: Database, keep_points_days: float | None) -> None:
        self._database = database
        self._keep_days = keep_points_days
        self._series: dict[int, int] = {}
        """Series the last merge of an experiment met."""
        self._not_before: dict[int, float] = {}
        """Experiments whose last merge failed, and when the next is tried."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="merger")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_age_out = loop.time()
        while True:
            await self._run_guarded("merging points", self.merge_due())
            await self._run_guarded("dropping merged segments", self.drop_merged())
            if self._keep_days is not None and loop.time() >= next_age_out:
                next_age_out = loop.time() + _AGE_OUT_EVERY_S
                await self._run_guarded("ageing points out", age_out(self._database, self._keep_days))
            await asyncio.sleep(_PAUSE_S)

    async def _run_guarded(self, what: str, work: Awaitable[object]) -> bool:
        """Points stay readable where they are: what fails is tried again. Whether it went well."""
        try:
            await work
        except DATABASE_ERRORS as error:
            logger.warning("%s failed, trying again: %s", what, error)
        except Exception:
            logger.exception("%s failed", what)
        else:
            return True
        return False

    async def merge_due(self) -> None:
        """Merge what is worth it. An experiment that cannot be merged keeps no other from it, and waits a while."""
        now = asyncio.get_running_loop().time()
        async with self._database.transaction() as session:
            tails = await repository.tails(session)
        POINTS_UNMERGED.set(sum(tail.points for tail in tails))
        for tail in tails:
            number = tail.experiment_id
            enough = max(_LEAST_POINTS, _POINTS_A_SERIES * self._series.get(number, 0))
            full = tail.points >= min(enough, _MOST_POINTS) or tail.segments >= _MOST_SEGMENTS
            if (full or tail.idle >= _IDLE_S) and self._not_before.get(number, now) <= now:
                if await self._run_guarded(f"merging the points of experiment {number}", self._merge(number)):
                    self._not_before.pop(number, None)
                else:
                    self._not_before[number] = now + _RETRY_S
        going_on = {tail.experiment_id for tail in tails}
        self._series = {number: count for number, count in self._series.items() if number in going_on}
        self._not_before = {number: at for number, at in self._not_before.items() if number in going_on}

    async def _merge(self, experiment_id: int) -> None:
        self._series[experiment_id] = await merge(self._database, experiment_id)

    async def drop_merged(self) -> None:
        """Delete segments that were merged long enough ago, of one experiment at a time."""
        going_on = True
        while going_on:
            async with self._database.transaction() as session:
                going_on = await repository.drop_merged(session, _KEEP_SEGMENTS_S, 1000) > 0


async def merge(database: Database, experiment_id: int) -> int:
    """Move the oldest unmerged points of an experiment into chunks. How many series there were.

    Nobody waits for it: it takes no lock that a report or a reader needs.
    """
    async with database.transaction() as guard:
        if not await repository.lock_for_merging(guard, experiment_id):
            return 0
        # Its statements must see the same chunks. It begins once the lock is held, so that it sees the last merge.
        async with database.snapshot() as session:
            return await _merge_within(session, experiment_id)


async def _merge_within(session: AsyncSession, experiment_id: int) -> int:
    segments = await repository.unmerged_segments(session, experiment_id, _MOST_POINTS)
    if not segments:
        return 0
    points = await asyncio.to_thread(lambda: Points.concat([codec.decode(row.body) for row in segments]).settled())
    bounds = points.runs().tolist()
    fresh = [points[start:end] for start, end in pairwise(bounds)]
    keys = [split_key(int(part.series[0])) for part in fresh]
    ids = {t.number: t.id for t in await trials.by_number(session, experiment_id, {number for number, _ in keys})}
    series = [(ids[number], metric_id) for number, metric_id in keys]
    found = await repository.chunks_to_merge(session, series, [int(part.step[0]) for part in fresh])
    spans: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for row in found:
        spans[row.trial_id, row.metric_id].append(Span(row.first_step, row.last_step, row.points))
    groups = [
        (one, taken, part) for one, new in zip(series, fresh, strict=True) for taken, part in place(new, spans[one])
    ]
    replaced = [(*one, span.first_step) for one, taken, _ in groups for span in taken]
    bodies = await repository.chunk_bytes(session, replaced, "body")
    chunks = await asyncio.to_thread(_rebuild, groups, bodies)
    await repository.delete_chunks(session, replaced)
    await repository.add_chunks(session, chunks)
    await repository.mark_merged(session, experiment_id, [row.seq for row in segments])
    return len(series)


def _rebuild(
    groups: list[tuple[tuple[int, int], list[Span], Points]], bodies: list[bytes]
) -> list[tuple[int, int, NewChunk]]:
    chunks = []
    left = iter(bodies)
    for one, taken, new in groups:
        old = [codec.decode(next(left), int(new.series[0])) for _ in taken]
        chunks += [(*one, chunk) for chunk in build(Points.concat([*old, new]).settled())]
    return chunks


async def age_out(database: Database, days: float) -> int:
    """Delete the points of experiments that ended `days` ago; their states and last values are kept.

    Returns how many experiments lost their points.
    """
    done = 0
    while True:
        async with database.transaction() as session:
            old = await repository.aged(session, days, limit=10)
        for experiment_id in old:
            await delete_points(database, experiment_id)
            async with database.transaction() as session:
                experiment = await experiments.get(session, experiment_id, lock=True)
                if experiment is not None:
                    experiment.merged_seq = experiment.seq
            logger.info("points of experiment %d deleted: it ended over %g days ago", experiment_id, days)
        done += len(old)
        if len(old) < 10:
            return done


async def delete_points(database: Database, experiment_id: int, *, at_once: int = 500) -> None:
    """Delete every point of an experiment in small transactions, so that nobody waits."""
    while True:
        async with database.transaction() as session:
            if not await repository.delete_points(session, experiment_id, at_once):
                return
