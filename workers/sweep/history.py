"""What trials showed in earlier attempts, epoch by epoch, read from their spools.

Schedulers compare trials with each other: after a restart they must know those that have finished, and the first
epochs of those that continue.
"""

import math

from workers.storage.folder import Storage
from workers.storage.points import merged


def history(storage: Storage, number: int, metric: str) -> list[tuple[int, float]]:
    """The last value a metric had at the end of every epoch: (epoch, value), from the first it was measured in."""
    found: list[tuple[int, float]] = []
    value: float | None = None
    for point in merged(storage, number):
        value = point.values.get(metric, value)
        if value is None or not math.isclose(point.epoch, round(point.epoch), abs_tol=1e-9) or point.epoch < 0.5:
            continue
        found.append((round(point.epoch), value))
    return found
