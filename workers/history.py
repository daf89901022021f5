"""What trials showed in earlier attempts, epoch by epoch, read from their spools.

Schedulers compare trials with each other: after a restart they must know those that have finished, and the first
epochs of those that go on.
"""

import math
from pathlib import Path

from workers.spool import Point, SpoolReader
from workers.storage import Storage


def history(storage: Storage, number: int, metric: str) -> list[tuple[int, float]]:
    """The last value a metric had at the end of every epoch: (epoch, value), from the first it was measured in."""
    points: dict[int, Point] = {}
    for file in sorted(storage.points.glob(f"{number:04d}-*.jsonl"), key=lambda path: path.stat().st_mtime):
        for point in _points(file):
            known = points.get(point.step)
            merged = {**known.values, **point.values} if known else point.values
            points[point.step] = Point(number, point.step, point.epoch, point.time, merged)
    found: list[tuple[int, float]] = []
    value: float | None = None
    for _, point in sorted(points.items()):
        value = point.values.get(metric, value)
        if value is None or not math.isclose(point.epoch, round(point.epoch), abs_tol=1e-9) or point.epoch < 0.5:
            continue
        found.append((round(point.epoch), value))
    return found


def _points(file: Path) -> list[Point]:
    reader = SpoolReader(file)
    reader.offset = 0  # what was delivered counts as well
    points: list[Point] = []
    while True:
        taken, end = reader.read(10_000)
        if end <= reader.offset:
            return points
        points += taken
        reader.offset = end
