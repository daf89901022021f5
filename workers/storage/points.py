"""Every metric point of an experiment once: merged from the spools of all attempts, as Parquet.

Owns which of several values of a point stands: the one measured last.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adadim_core.storage.atomic import write_atomically
from adadim_core.storage.points_file import opened_points
from workers.errors import RunError
from workers.storage.folder import Storage
from workers.storage.spool import Point, SpoolReader

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 65_536
_READ_VALUES = 5_000


def write_points(storage: Storage, trials: Iterable[int]) -> None:
    """Write points.parquet: columns trial, metric, step, epoch, time, value; ordered by trial, step, metric.

    One trial is held in memory at a time.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema(pa)

    def write(file: BinaryIO) -> None:
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for trial in trials:
                rows = list(_rows(storage, trial))
                if rows:
                    columns = [list(column) for column in zip(*rows, strict=True)]
                    writer.write_table(pa.table(columns, schema=schema), row_group_size=_ROWS)

    write_atomically(storage.parquet, write)
    storage.push(storage.parquet)


def read_points(storage: Storage) -> Iterator[list[Point]]:
    """The points of points.parquet, some thousands at a time, in its order.

    Raises:
        RunError: the file cannot be read.
    """
    from pyarrow import ArrowException

    try:
        with opened_points(storage.parquet) as file:
            for batch in file.iter_batches(batch_size=_READ_VALUES):
                yield _points(batch)
    except (OSError, ArrowException) as error:
        why = " ".join(str(error).split())  # pyarrow's may go over several lines
        raise RunError(f"{storage.shown(storage.parquet)} cannot be read, it may be damaged: {why}") from error


def merged(storage: Storage, trial: int) -> list[Point]:
    """A trial's points in the order of their steps, each metric once a step: the value measured last.

    That is the later one in a spool, and that of the run begun later, whatever the nodes' clocks say.
    """
    points: dict[int, Point] = {}
    for point in _spooled(storage, trial):
        earlier = points.get(point.step)
        values = {**earlier.values, **point.values} if earlier else point.values
        points[point.step] = Point(trial, point.step, point.epoch, point.time, values)
    return [points[step] for step in sorted(points)]


def _rows(storage: Storage, trial: int) -> Iterator[tuple[Any, ...]]:
    for point in merged(storage, trial):
        for name in sorted(point.values):
            yield trial, name, point.step, point.epoch, point.time, point.values[name]


def _spooled(storage: Storage, trial: int) -> Iterator[Point]:
    """Run by run, in a run process by process."""
    spools = [
        (_run_began(file), points[0].time, points)
        for file in storage.points.glob(f"{trial:04d}-*.jsonl")
        if (points := list(_file(file)))
    ]
    for *_, points in sorted(spools, key=lambda spool: spool[:2]):
        yield from points


def _run_began(spool: Path) -> int:
    """When the run of a spool began: its name, TRIAL-RUN-PROCESS, has that at the end of RUN."""
    found = re.search(r"-([0-9a-f]+)-[0-9a-f]+$", spool.stem)
    return int(found[1], 16) if found else 0


def _file(file: Path) -> Iterator[Point]:
    reader = SpoolReader(file)
    reader.offset = 0  # what was delivered counts as well
    while True:
        points, end = reader.read(_READ_VALUES)
        if end <= reader.offset:
            return
        yield from points
        reader.offset = end


def _schema(arrow: Any) -> "pa.Schema":
    return arrow.schema(
        [
            ("trial", arrow.int32()),
            ("metric", arrow.dictionary(arrow.int32(), arrow.string())),
            ("step", arrow.int64()),
            ("epoch", arrow.float64()),
            ("time", arrow.float64()),
            ("value", arrow.float64()),
        ]
    )


def _points(batch: "pa.RecordBatch") -> list[Point]:
    """Rows of one step side by side become one point."""
    points: list[Point] = []
    for trial, metric, step, epoch, time, value in zip(*(c.to_pylist() for c in batch.columns), strict=True):
        last = points[-1] if points else None
        if last is None or (last.trial, last.step) != (trial, step):
            last = Point(trial, step, epoch, time, {})
            points.append(last)
        last.values[metric] = value
    return points
