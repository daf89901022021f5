"""What followers of an experiment are sent: each event is read and encoded once, however many follow.

A follower's place is a number. The newest frames are kept in memory, bounded in bytes; whoever is further back reads
the database from their own place. Nothing is buffered per follower.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.engine import Database
from service.database.tables import Event
from service.events import repository
from service.experiments import repository as experiments
from service.experiments.schemas import ExperimentRead
from service.metrics import repository as metrics
from service.metrics.answers import points_event
from service.metrics.codec import decode
from service.metrics.points import Points
from service.trials import repository as trials
from service.trials.schemas import TrialRead

_BATCH = 200
_KEPT_BYTES = 8 * 1024 * 1024


@dataclass
class Frame:
    """One event as it is sent."""

    seq: int
    data: bytes
    """The whole event in the form of server-sent events."""
    points: Points | None = None
    names: dict[int, str] = field(default_factory=dict)
    _chosen: dict[frozenset[str], bytes] = field(default_factory=dict)

    def of(self, wanted: frozenset[str] | None) -> bytes:
        """The event with some metrics only; without any of them it still says how far the stream is."""
        if self.points is None or wanted is None:
            return self.data
        if wanted not in self._chosen:
            if len(self._chosen) >= 8:  # kept for those who ask alike
                self._chosen.clear()
            self._chosen[wanted] = _points_frame(self.seq, self.points, self.names, wanted)
        return self._chosen[wanted]

    @property
    def size(self) -> int:
        return len(self.data) + (0 if self.points is None else 36 * len(self.points))


@dataclass(frozen=True)
class Reading:
    """What follows a place in the stream."""

    frames: list[Frame]
    end: int
    """The place after them; further than the last frame where events were left out."""
    more: bool
    """There may be more already."""
    merged: int = 0
    """Points up to this event come no more: from before it, series must be read anew."""
    gone: bool = False
    """The experiment does not exist any more."""


class Feed:
    """The stream of one experiment in this process."""

    def __init__(self, database: Database, experiment_id: int) -> None:
        self._database, self._id = database, experiment_id
        self._frames: deque[Frame] = deque()
        self._size = 0
        self._start: int | None = None
        """Every event after this one and up to `_end` is in `_frames`."""
        self._end = 0
        self._lock = asyncio.Lock()
        self.followers = 0

    async def after(self, seq: int) -> Reading:
        """The next events after `seq`."""
        found = self._kept(seq)
        if found.frames:
            return found
        # One reads the end of the stream for all; those who waited for it mostly find what they need.
        async with self._lock:
            found = self._kept(seq)
            if found.frames:
                return found
            reading = await _read(self._database, self._id, seq)
            if self._start is None or seq == self._end:
                self._keep(seq, reading)
            return reading

    def _kept(self, seq: int) -> Reading:
        if self._start is None or not self._start <= seq < self._end:
            return Reading([], seq, more=False)
        frames = [frame for frame in self._frames if frame.seq > seq]
        return Reading(frames, self._end, more=False)

    def _keep(self, seq: int, reading: Reading) -> None:
        if self._start is None:
            self._start = seq
        self._end = reading.end
        for frame in reading.frames:
            self._frames.append(frame)
            self._size += frame.size
        while self._size > _KEPT_BYTES:
            old = self._frames.popleft()
            self._size -= old.size
            self._start = old.seq


class Feeds:
    """The streams followed in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[int, Feed] = {}

    @contextlib.contextmanager
    def follow(self, experiment_id: int) -> Iterator[Feed]:
        """The feed of an experiment; it is forgotten with its last follower."""
        feed = self._feeds.setdefault(experiment_id, Feed(self._database, experiment_id))
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                self._feeds.pop(experiment_id, None)


async def _read(database: Database, experiment_id: int, seq: int) -> Reading:
    """Up to a batch of the events after `seq`, from one snapshot. State events carry the present state."""
    async with database.snapshot() as session:
        experiment = await experiments.get(session, experiment_id)
        if experiment is None:
            return Reading([], seq, more=False, gone=True)
        events = await repository.after(session, experiment_id, seq, _BATCH)
        segments = await metrics.segments_after(session, experiment_id, seq, _BATCH)
        # Both are complete up to the smaller end of those that were cut off.
        ends = [rows[-1].seq for rows in (events, segments) if len(rows) == _BATCH]
        end = min(ends) if ends else experiment.seq
        names = await metrics.metric_names(session) if segments else {}
        shown = ExperimentRead.model_validate(experiment)
        states = await _trials(session, experiment_id, [e for e in events if e.kind == "trial"])
    frames = []
    for event in events:
        if event.seq > end:
            break
        if event.kind == "trial":
            trial = states.get(int(event.payload["number"]))
            data = None if trial is None else trial.model_dump_json()
        else:
            data = shown.model_dump_json()
        if data is not None:
            text = format_sse_event(event=event.kind, data_str=data, id=str(event.seq))
            frames.append(Frame(event.seq, text))
    for segment in segments:
        if segment.seq > end:
            break
        points = await asyncio.to_thread(decode, segment.body)
        text = await asyncio.to_thread(_points_frame, segment.seq, points, names, None)
        frames.append(Frame(segment.seq, text, points, names))
    frames.sort(key=lambda frame: frame.seq)
    return Reading(frames, max(end, seq), more=bool(ends), merged=experiment.merged_seq)


async def _trials(session: AsyncSession, experiment_id: int, events: list[Event]) -> dict[int, TrialRead]:
    numbers = {int(event.payload["number"]) for event in events}
    rows = await trials.by_number(session, experiment_id, numbers) if numbers else []
    return {row.number: TrialRead.model_validate(row) for row in rows}


def _points_frame(seq: int, points: Points, names: dict[int, str], wanted: frozenset[str] | None) -> bytes:
    return b"event: points\nid: %d\ndata: %b\n\n" % (seq, points_event(points, names, wanted))
