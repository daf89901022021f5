"""Points in columns, and the two laws on them: which of two points of one step stands, and which survive thinning.

Pure functions on numpy arrays; knows nothing of the database or of bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_METRIC_BITS = 31


def series_key(trial: int, metric_id: int) -> int:
    """One number for a series: trials sort before metrics. `trial` is the trial's number in its experiment."""
    return trial << _METRIC_BITS | metric_id


def split_key(key: int) -> tuple[int, int]:
    """Trial number and metric id of a series."""
    return key >> _METRIC_BITS, key & (1 << _METRIC_BITS) - 1


@dataclass(frozen=True, eq=False)
class Points:
    """Points in columns of one length, of any number of series."""

    series: Ints
    """`series_key` of each point."""
    step: Ints
    epoch: NDArray[np.float32]
    time: Floats
    """Unix time in seconds."""
    value: Floats

    @classmethod
    def of(cls, series: Any, step: Any, epoch: Any, time: Any, value: Any) -> Self:
        """From anything numpy takes as columns; `series` may be one number for all."""
        steps = np.asarray(step, np.int64)
        keys = np.broadcast_to(np.asarray(series, np.int64), steps.shape)
        return cls(keys, steps, np.asarray(epoch, np.float32), np.asarray(time, float), np.asarray(value, float))

    @classmethod
    def concat(cls, parts: Sequence["Points"]) -> "Points":
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.of([], [], [], [], [])
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, chosen: Any) -> "Points":
        """Points at indices, in a slice or under a mask."""
        return Points(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def runs(self) -> Ints:
        """Where each run of one series begins, with the end of the last: n runs give n + 1 numbers."""
        if not len(self):
            return np.zeros(1, np.int64)
        changes = np.flatnonzero(self.series[1:] != self.series[:-1]) + 1
        return np.concatenate(([0], changes, [len(self)]))

    def settled(self) -> "Points":
        """Sorted by series and step, each step once: what was measured last stands, by its time.

        Of equal times the larger value stands (NaN is largest). So the answer is the same in whatever order and
        however often the points came.
        """
        if len(self) < 2:
            return self
        same_series = self.series[1:] == self.series[:-1]
        ahead = (self.series[1:] > self.series[:-1]) | (same_series & (self.step[1:] > self.step[:-1]))
        if ahead.all():
            return self
        found = self[np.lexsort((self.step, self.series))]
        if found._ends().all():  # nearly always, and ten times as quick
            return found
        found = self[np.lexsort((self.epoch, self.value, self.time, self.step, self.series))]
        return found[found._ends()]

    def _ends(self) -> NDArray[np.bool_]:
        """Of sorted points, which is the last of its series and step."""
        last = np.ones(len(self), bool)
        last[:-1] = (self.series[1:] != self.series[:-1]) | (self.step[1:] != self.step[:-1])
        return last

    def thinned(self, level: int | Ints) -> "Points":
        """What stays visible of settled points when each series is cut into buckets of 2**level steps.

        Of each bucket stay the first and the last point, the smallest and the largest finite value, and the first
        and the last value that is not finite: neither spikes nor NaN runs vanish, and none hides the other. Buckets
        lie on a fixed grid of steps, so that thinning what was thinned at a lower level gives the same as thinning
        everything: summaries of parts can stand for the parts.

        Args:
            level: one for all, or one for each point.
        """
        if not len(self):
            return self
        bucket = self.step >> level
        new = np.ones(len(self), bool)
        new[1:] = (self.series[1:] != self.series[:-1]) | (bucket[1:] != bucket[:-1])
        starts = np.flatnonzero(new)
        group = np.cumsum(new) - 1
        keep = new.copy()
        keep[np.append(starts[1:], len(self)) - 1] = True
        finite = np.isfinite(self.value)
        for filler, extreme in ((np.inf, np.minimum), (-np.inf, np.maximum)):
            filled = np.where(finite, self.value, filler)
            found = np.flatnonzero(finite & (filled == extreme.reduceat(filled, starts)[group]))
            keep[_first_of_each(found, group)] = True
        odd = np.flatnonzero(~finite)
        keep[_first_of_each(odd, group)] = True
        keep[_first_of_each(odd[::-1], group)] = True
        return self[keep]


def _first_of_each(found: Ints, group: Ints) -> Ints:
    """Of indices in order of their groups, the first of each group."""
    groups = group[found]
    first = np.ones(len(found), bool)
    first[1:] = groups[1:] != groups[:-1]
    return found[first]


def bucket_level(first: int, last: int, buckets: int) -> int:
    """The lowest level at which steps `first` to `last` lie in at most `buckets` buckets."""
    level = max(int((last - first) // max(buckets, 1)).bit_length() - 1, 0)
    while (last >> level) - (first >> level) + 1 > buckets and level < 63:
        level += 1
    return level
