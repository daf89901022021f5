"""The spool: a trial's metric points in a local file, one JSON line each. The file is the queue to the service.

Owns the line format and the acknowledged offset beside it (`.ack`). A writer appends and never waits; a reader,
in the same process or a later one, takes complete lines from the offset on. The file stays as the trial's
record after everything in it was delivered.
"""

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from adadim_core.spec.report import (
    MAX_EPOCH,
    MAX_METRICS_PER_SERIES,
    MAX_STEP,
    MAX_TRIAL_NUMBER,
    METRIC_NAME,
    Report,
    Series,
    decode_float,
    encode_float,
)
from adadim_core.storage.atomic import write_text
from adadim_core.storage.reading import open_regular

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 512 * 1024
"""What is read at a time, and the longest line; a worker's are a hundred times shorter."""
_SHORTEST = 40
"""Bytes of a line that may be a point; others need no reading."""
_LONGEST_OFFSET = 32
_NAME = re.compile(METRIC_NAME.replace("$", r"\Z"))


@dataclass(frozen=True)
class Point:
    """The metrics measured at one step of one trial."""

    trial: int
    step: int
    epoch: float
    time: float
    values: dict[str, float]


class Spool:
    """Appends points of one trial. One thread writes."""

    def __init__(self, path: Path, trial: int, on_append: Callable[[], None] = lambda: None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._trial = trial
        self._on_append = on_append
        self._write_failed = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self._fd).st_size
        # a killed writer may have left half a line: end it, so that ours starts its own
        self._torn = bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def append(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Store one point. Returns when the operating system has it: it survives the death of this process."""
        line = {
            "trial": self._trial,
            "step": step,
            "epoch": encode_float(float(epoch)),
            "time": round(time.time(), 3),
            "values": {name: encode_float(float(value)) for name, value in values.items()},
        }
        data = (b"\n" if self._torn else b"") + json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            self._torn = os.write(self._fd, data) < len(data)
        except OSError as error:
            if not self._write_failed:  # a full disk must not end the training; say it once
                self._write_failed = True
                logger.error("cannot write metric points to %s: %s; they are lost until it can", self.path, error)
            return
        self._on_append()

    def close(self) -> None:
        os.close(self._fd)


class SpoolReader:
    """Reads what was not acknowledged yet. One thread uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ack = path.with_suffix(".ack")
        self.offset = self._stored_offset()
        """Everything before it was delivered."""
        self.cut = False
        """Whether the last `read` left complete lines for the next one."""
        self.skipped = 0
        """Lines that are no points."""
        self._skipped_to = 0

    @property
    def pending(self) -> bool:
        """Whether a complete line waits to be delivered; True if the file cannot be read."""
        try:
            return self.read(1)[1] > self.offset
        except OSError:
            return True

    def read(self, max_values: int) -> tuple[list[Point], int]:
        """The next points, at most about `max_values` measured values of them, and the offset after them.

        Raises:
            OSError: the file is there and cannot be read.
        """
        self.cut = False
        points: list[Point] = []
        end, values = self.offset, 0
        try:
            if self.path.stat().st_size <= self.offset:  # the usual case
                return [], self.offset
            file = open_regular(self.path.parent, self.path.name)
        except FileNotFoundError:
            return [], self.offset
        with file:
            within = self._within_a_line(file)
            # As much as is asked for and no more: what is read here and not taken is read again the next time.
            while line := file.readline(_CHUNK_BYTES):
                if line == b"\n" and end - self.offset < _CHUNK_BYTES:  # hundreds of thousands of them cost nothing
                    end, within = end + 1, False
                    continue
                whole = line.endswith(b"\n")
                if not whole and len(line) < _CHUNK_BYTES:
                    break  # its writer is at it, or died; complete lines only
                point = None if within or not whole or len(line) < _SHORTEST else self._parse(line)
                full = point is not None and values + len(point.values) > max_values
                if (points and full) or end - self.offset >= _CHUNK_BYTES:
                    self.cut = True
                    break
                if point is not None:
                    points.append(point)
                    values += len(point.values)
                elif not within and not line.isspace():
                    self._skip(end)
                end += len(line)
                within = not whole
        return points, end

    def _within_a_line(self, file: BufferedReader) -> bool:
        """Go to the offset. Whether it is within a line, one so long that it is passed over in pieces."""
        file.seek(max(self.offset - 1, 0))
        return self.offset > 0 and file.read(1) not in (b"\n", b"")

    def _skip(self, offset: int) -> None:
        """Count a line that is no point, once, however often it is read; tell the first, the tenth and so on."""
        if offset < self._skipped_to:
            return
        self.skipped, self._skipped_to = self.skipped + 1, offset + 1
        if str(self.skipped).strip("0") == "1":
            logger.warning("skipped %d broken lines of %s so far: no points of a worker", self.skipped, self.path)

    def acknowledge(self, offset: int) -> None:
        """Remember that everything before `offset` was delivered."""
        self.offset = offset
        try:
            write_text(self._ack, str(offset), durable=False)
        except OSError:
            logger.warning("cannot write %s: points may be delivered twice, which does no harm", self._ack)

    def _stored_offset(self) -> int:
        try:
            with open_regular(self._ack.parent, self._ack.name) as file:
                offset = int(file.read(_LONGEST_OFFSET))
        except (OSError, ValueError):  # points that are delivered twice do no harm
            return 0
        return max(offset, 0)

    def _parse(self, line: bytes) -> Point | None:
        """The point of a line; None if it is none, whatever it is: others may be able to write here."""
        try:
            fields = json.loads(line)
            values = {str(name): float(decode_float(value)) for name, value in fields["values"].items()}
            epoch, at = float(decode_float(fields["epoch"])), float(fields["time"])
            point = Point(int(fields["trial"]), int(fields["step"]), epoch, at, values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None
        return point if _reportable(point) else None


def _reportable(point: Point) -> bool:
    """Whether the service's contract admits the point: one that it does not must not cost those beside it a try."""
    return (
        0 <= point.trial <= MAX_TRIAL_NUMBER
        and 0 <= point.step <= MAX_STEP
        and not (point.epoch < 0 or point.epoch > MAX_EPOCH)
        and math.isfinite(point.time)
        and len(point.values) <= MAX_METRICS_PER_SERIES
        and all(map(_NAME.match, point.values))
    )


def to_report(points: Iterable[Point]) -> Report:
    """Points as columns: one series a trial, in the order given; another where it would have too many metrics."""
    trials: dict[int, list[tuple[set[str], list[Point]]]] = {}
    for point in points:
        if not point.values:
            continue
        parts = trials.setdefault(point.trial, [(set(), [])])
        if len(parts[-1][0] | point.values.keys()) > MAX_METRICS_PER_SERIES:
            parts.append((set(), []))
        names, rows = parts[-1]
        names.update(point.values)
        rows.append(point)
    return Report(series=[_series(trial, rows) for trial, parts in trials.items() for _, rows in parts])


def _series(trial: int, rows: list[Point]) -> Series:
    names = dict.fromkeys(name for row in rows for name in row.values)
    return Series(
        trial=trial,
        steps=[row.step for row in rows],
        epochs=[row.epoch for row in rows],
        times=[row.time for row in rows],
        values={name: [row.values.get(name) for row in rows] for name in names},
    )
