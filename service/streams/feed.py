"""What followers of an experiment are sent. One task reads the end of its stream, once for all who follow.

A follower's place is a number. The newest frames are kept in memory, bounded in number and bytes; whoever is further
back reads the database from their own place and holds up nobody. Nothing is buffered per follower but what is being
sent.
"""

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.sse import format_sse_event
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import notify
from service.database.engine import DATABASE_ERRORS, Database
from service.database.notify import Listener
from service.database.tables import Event
from service.events import repository
from service.experiments import repository as experiments
from service.experiments.schemas import ExperimentRead
from service.metrics import repository as metrics
from service.metrics.answers import points_event
from service.metrics.codec import decode
from service.telemetry.counters import FOLLOWERS
from service.trials import repository as trials
from service.trials.service import shown

logger = logging.getLogger(__name__)

_POLL_S = 5.0
"""A notification lost on the way costs at most this."""
_PACE_S = 0.05
"""Between two reads: a client receives what arrived meanwhile in one piece, however many reports it was."""
_BATCH = 200
"""Events of one read, and frames kept."""
_BATCH_POINTS = 50_000
"""Points of one read: well under a megabyte as they are stored. At least one segment is read."""
_KEPT_BYTES = 8 * 1024 * 1024
_AT_ONCE = 64 * 1024
"""Bytes after which a follower is given no more frames at a time: what is on its way to a slow one stays in memory."""
_CATCHING_UP = 4
"""Connections to the database for those who are further back, all experiments together."""


@dataclass
class Frame:
    """One event as it is sent: points are read and written as text when the first follower gets there."""

    seq: int
    text: bytes = b""
    """A state event as it is sent."""
    body: bytes | None = None
    """Points as they are stored."""
    names: dict[int, str] = field(default_factory=dict)
    _texts: dict[frozenset[str] | None, bytes] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, wanted: frozenset[str] | None) -> bytes:
        """The event with some metrics only; without any of them it still says how far the stream is."""
        if self.body is None:
            return self.text
        async with self._lock:
            if wanted not in self._texts:
                if len(self._texts) >= 8:  # kept for those who ask alike
                    self._texts.clear()
                self._texts[wanted] = await asyncio.to_thread(points_frame, self.seq, self.body, self.names, wanted)
            return self._texts[wanted]

    @property
    def size(self) -> int:
        return len(self.text) + len(self.body or b"") + sum(map(len, self._texts.values()))


@dataclass(frozen=True)
class Reading:
    """What follows a place in the stream."""

    frames: deque[Frame]
    end: int
    """The place after them; further than the last frame where events were left out."""
    more: bool = False
    """There may be more already."""
    merged: int = 0
    """Points up to this event are no longer sent: a client further back must read the series again."""
    gone: bool = False
    """The experiment does not exist any more."""


class Feed:
    """The end of one experiment's stream in this process."""

    def __init__(self, database: Database, listener: Listener, experiment_id: int, tip: int) -> None:
        self._database, self._listener, self._id = database, listener, experiment_id
        self._frames: list[Frame] = []
        self._start = self._end = tip
        """Every event after the one and up to the other is in `_frames`."""
        self._gone = False
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._pump(), name=f"feed of experiment {experiment_id}")
        self.followers = 0

    def close(self) -> None:
        self._task.cancel()

    def kept(self, seq: int) -> Reading | None:
        """The next events after `seq`, none at the end of the stream; None if they are not in memory any more."""
        if self._gone or seq >= self._end:
            return Reading(deque(), seq, gone=self._gone)
        if seq < self._start:
            return None
        found: deque[Frame] = deque()
        size = 0
        at = bisect_right(self._frames, seq, key=lambda frame: frame.seq)
        while at < len(self._frames) and size < _AT_ONCE:
            found.append(self._frames[at])
            size += found[-1].size
            at += 1
        return Reading(found, self._end if at == len(self._frames) else found[-1].seq, more=True)

    async def wait(self, timeout_s: float) -> None:
        """Until the end of the stream was looked at again, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def _pump(self) -> None:
        with self._listener.subscribe(notify.EVENTS, str(self._id)) as notified:
            more = True
            while not self._gone:
                if not more:
                    await notify.wait(notified, _POLL_S)
                more = False
                try:
                    more = self._keep(await read(self._database, self._id, self._end))
                except DATABASE_ERRORS as error:
                    logger.warning("experiment %d: cannot read its events, trying again: %s", self._id, error)
                except Exception:
                    logger.exception("experiment %d: reading its events failed; trying again", self._id)
                self._changed.set()
                self._changed = asyncio.Event()
                await asyncio.sleep(_PACE_S)

    def _keep(self, found: Reading) -> bool:
        self._gone = found.gone
        if found.merged > self._end:  # points in between come no more: who needs them finds out by themselves
            self._frames.clear()
            self._start = found.end
        else:
            self._frames += found.frames
        self._end = max(self._end, found.end)
        size = sum(frame.size for frame in self._frames)
        old = 0
        while size > _KEPT_BYTES or len(self._frames) - old > _BATCH:
            self._start = self._frames[old].seq
            size -= self._frames[old].size
            old += 1
        del self._frames[:old]
        return found.more


class Feeds:
    """The streams followed in this process."""

    def __init__(self, database: Database, listener: Listener) -> None:
        self._database, self._listener = database, listener
        self._feeds: dict[int, Feed] = {}
        self._catching_up = asyncio.Semaphore(_CATCHING_UP)

    @contextlib.contextmanager
    def follow(self, experiment_id: int, tip: int) -> Iterator[Feed]:
        """The feed of an experiment, whose last event was `tip` a moment ago. It ends with its last follower."""
        if experiment_id not in self._feeds:
            self._feeds[experiment_id] = Feed(self._database, self._listener, experiment_id, tip)
        feed = self._feeds[experiment_id]
        feed.followers += 1
        FOLLOWERS.inc()
        try:
            yield feed
        finally:
            FOLLOWERS.dec()
            feed.followers -= 1
            if not feed.followers:
                del self._feeds[experiment_id]
                feed.close()

    async def older(self, experiment_id: int, seq: int) -> Reading:
        """The next events after `seq` for one who is further back than memory reaches."""
        async with self._catching_up:
            return await read(self._database, experiment_id, seq)


async def read(database: Database, experiment_id: int, seq: int) -> Reading:
    """Up to a batch of the events after `seq`, from one snapshot. State events carry the present state."""
    async with database.snapshot() as session:
        place = await repository.place(session, experiment_id)
        if place is None:
            return Reading(deque(), seq, gone=True)
        if place.seq <= seq:
            return Reading(deque(), seq, merged=place.merged_seq)
        events = await repository.after(session, experiment_id, seq, _BATCH)
        segments = await metrics.segments_after(session, experiment_id, seq, _BATCH, _BATCH_POINTS)
        # Both are complete up to the smaller end of those that were cut off.
        ends = [
            rows[-1].seq for rows, full in ((events, len(events) >= _BATCH), (segments, _is_full(segments))) if full
        ]
        end = min(ends) if ends else place.seq
        names = await metrics.metric_names(session) if segments else {}
        frames = await _state_frames(session, experiment_id, [event for event in events if event.seq <= end])
    frames += [Frame(row.seq, body=row.body, names=names) for row in segments if row.seq <= end]
    frames.sort(key=lambda frame: frame.seq)
    return Reading(deque(frames), end, more=bool(ends), merged=place.merged_seq)


def _is_full(segments: Sequence[Row[Any]]) -> bool:
    return len(segments) >= _BATCH or sum(row.points for row in segments) >= _BATCH_POINTS


async def _state_frames(session: AsyncSession, experiment_id: int, events: Sequence[Event]) -> list[Frame]:
    if not events:
        return []
    experiment = await experiments.get(session, experiment_id)
    numbers = {int(event.payload["number"]) for event in events if event.kind == "trial"}
    rows = await trials.by_number(session, experiment_id, numbers) if numbers else []
    spec = experiment.spec if experiment is not None else {}
    named = await asyncio.to_thread(shown, rows, spec) if rows else []
    states = {trial.number: trial.model_dump_json() for trial in named}
    now = ExperimentRead.model_validate(experiment).model_dump_json()
    frames = []
    for event in events:
        data = states.get(int(event.payload["number"])) if event.kind == "trial" else now
        if data is not None:
            frames.append(Frame(event.seq, format_sse_event(event=event.kind, data_str=data, id=str(event.seq))))
    return frames


def points_frame(seq: int, body: bytes, names: dict[int, str], wanted: frozenset[str] | None) -> bytes:
    """A segment as the event it is sent as."""
    return b"event: points\nid: %d\ndata: %b\n\n" % (seq, points_event(decode(body), names, wanted))
