"""Delivers metric points: a background thread takes them from the spools of this process to the service.

Owns batching, splitting, retry and backoff of points. The training thread only appends to a `Spool`; how fast
the service is, or whether it is there at all, never reaches it. Trial states and the outcome are attempt.py's.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from adadim_core.retrying import Backoff
from workers.reporting.connection import Connection, Refused, ServiceAddress, Superseded, Unavailable
from workers.storage.spool import Point, Spool, SpoolReader, to_report

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.3
"""Pause between two deliveries: short enough to look live, long enough to gather many points in one."""
FLUSH_SECONDS = 3.0
"""How long an ending process waits for the service to take its last points. The driver delivers the rest."""
MAX_VALUES = 5_000
"""Measured values in one delivery: about 100 KB."""


class PointReporter:
    """The spools of one process and the thread that delivers them. Without a service it only spools."""

    def __init__(self, address: ServiceAddress | None) -> None:
        self._lock = threading.Lock()
        self._readers: list[SpoolReader] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        if address is not None:
            self._thread = threading.Thread(target=self._run, args=(address,), name="reporter", daemon=True)
            self._thread.start()

    def open(self, path: Path, trial: int) -> Spool:
        """A spool for one trial. Its points, and those an earlier process left in it, are delivered."""
        spool = Spool(path, trial, on_append=self._wake.set)
        with self._lock:
            # Without a thread nothing is ever delivered here: looking at every spool so far would be for nothing.
            live = self._thread is not None and self._thread.is_alive()
            self._readers = [reader for reader in self._readers if live and reader.pending] + [SpoolReader(path)]
        self._wake.set()
        return spool

    def close(self, timeout: float) -> bool:
        """Deliver what is left, for at most `timeout` seconds. Returns whether nothing is left."""
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout + 1.0)
        return not any(reader.pending for reader in self._readers)

    def _run(self, address: ServiceAddress) -> None:
        connection, backoff, away = Connection(address), Backoff(), False
        while not self._finished():
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                readers = list(self._readers)
            try:
                more = deliver(connection, readers, deadline=self._deadline)
            except Superseded:
                logger.info("this attempt is over; what it still measures stays in the spool")
                return
            except Unavailable as error:
                if not away:
                    logger.warning("cannot deliver (%s); points wait in the spool", error)
                away, more = True, True
                self._pause(backoff.next(error.retry_after))
            except Exception:
                # Whatever it is, this thread is the only way for points: it goes on, and the spools keep them.
                logger.exception("delivering points failed; trying again")
                more = True
                self._pause(backoff.next())
            else:
                if away:
                    logger.warning("delivering again, what waited too")
                away = False
                backoff.reset()
                self._closing.wait(BATCH_SECONDS if not more else 0)
            if more:
                self._wake.set()
        connection.close()

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():  # no time left for long waits, and no reason to spin
            seconds = min(seconds, 0.5)
            time.sleep(max(min(seconds, self._deadline - time.monotonic()), 0))
        else:
            self._closing.wait(seconds)

    def _finished(self) -> bool:
        if not self._closing.is_set():
            return False
        return time.monotonic() >= self._deadline or not any(reader.pending for reader in self._readers)


def replay(folder: Path, connection: Connection, *, timeout: float, limit: float = math.inf) -> bool:
    """Deliver what processes that are gone left in their spools. Returns whether nothing is left.

    Args:
        folder: where the spools are.
        connection: to the service.
        timeout: seconds without a delivery after which it is given up: a service that takes points is not away.
        limit: seconds after which it is given up in any case.

    Raises:
        Superseded: the attempt may not report any more.
    """
    end = time.monotonic() + limit
    deadline = min(time.monotonic() + timeout, end)
    readers = deque(map(SpoolReader, sorted(folder.glob("*.jsonl"))))
    backoff = Backoff(longest=2.0)
    while True:
        # In their order, so that each is looked at while it is being delivered and not in every round.
        while readers and not readers[0].pending:
            readers.popleft()
        if not readers or time.monotonic() >= deadline:
            return not readers
        try:
            deliver(connection, readers, deadline=deadline)
        except Unavailable as error:
            time.sleep(max(min(backoff.next(error.retry_after), deadline - time.monotonic()), 0))
        else:
            backoff.reset()
            deadline = min(time.monotonic() + timeout, end)


def deliver(connection: Connection, readers: Iterable[SpoolReader], *, deadline: float) -> bool:
    """Post one batch from the given spools and acknowledge it. Returns whether more is waiting.

    Raises:
        Superseded: nothing of the part not yet posted was acknowledged.
        Unavailable: the same, or a spool cannot be read; what the others hold was delivered.
    """
    batch: list[tuple[SpoolReader, int]] = []
    points: list[Point] = []
    room, more = MAX_VALUES, False
    unreadable: OSError | None = None
    for reader in readers:
        if room <= 0:
            more = True
            break
        try:
            taken, end = reader.read(room)
        except OSError as error:  # a network file system that is away for a while, say
            unreadable = error
            continue
        if end > reader.offset:
            batch.append((reader, end))
        points += taken
        more = more or reader.cut
        room -= sum(len(point.values) for point in taken)
    _post(connection, points, deadline)
    for reader, end in batch:
        reader.acknowledge(end)
    if unreadable is not None:
        raise Unavailable(f"cannot read a spool: {unreadable}")
    return more


def _post(connection: Connection, points: list[Point], deadline: float) -> None:
    """Post points in as many reports as the service wants. A point it refuses even alone is left in the spool."""
    if not points:
        return
    try:
        connection.post(to_report(points), timeout=min(10.0, deadline - time.monotonic()))
    except (Refused, ValidationError) as error:
        if len(points) > 1:
            half = len(points) // 2
            _post(connection, points[:half], deadline)
            _post(connection, points[half:], deadline)
            return
        logger.error(
            "the service refused trial %d step %d; the point stays in the spool: %s",
            points[0].trial,
            points[0].step,
            error,
        )
