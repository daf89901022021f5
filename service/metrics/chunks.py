"""Chunks: how the points of one series are cut and summarised for storing, and which chunks new points change.

Pure functions; repository.py stores what they give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.metrics.codec import encode, encode_summary
from service.metrics.points import Points, bucket_level

CHUNK_POINTS = 4096
"""Points of a full chunk: about 40 KB."""
_BUCKET_POINTS = 128
"""Points a bucket of the summary stands for, where steps are evenly spaced."""


@dataclass(frozen=True)
class NewChunk:
    """A chunk as it is stored, without its series."""

    first_step: int
    last_step: int
    points: int
    min_epoch: float
    max_epoch: float
    min_time: float
    max_time: float
    level: int
    summary: bytes
    body: bytes


@dataclass(frozen=True)
class Span:
    """Where a stored chunk lies."""

    first_step: int
    last_step: int
    points: int


def build(points: Points) -> list[NewChunk]:
    """Cut settled points of one series into chunks."""
    return [_chunk(points[at : at + CHUNK_POINTS]) for at in range(0, len(points), CHUNK_POINTS)]


def _chunk(points: Points) -> NewChunk:
    first, last = int(points.step[0]), int(points.step[-1])
    level = bucket_level(first, last, max(len(points) // _BUCKET_POINTS, 1))
    return NewChunk(
        first_step=first,
        last_step=last,
        points=len(points),
        min_epoch=float(points.epoch.min()),
        max_epoch=float(points.epoch.max()),
        min_time=float(points.time.min()),
        max_time=float(points.time.max()),
        level=level,
        summary=encode_summary(points.thinned(level)),
        body=encode(points, with_series=False),
    )


def place(points: Points, spans: Sequence[Span]) -> list[tuple[list[Span], Points]]:
    """Which stored chunks new settled points of a series go into: groups of chunks to replace, with their points.

    Points beyond the last chunk are appended: they take with them the small chunks at the end, so that these double
    in size instead of growing in number. Every other point goes into the chunk before it.

    Args:
        spans: in order of steps: at least every chunk that ends at or after the first point, and the last few.
    """
    if not spans:
        return [([], points)]
    beyond = int(np.searchsorted(points.step, spans[-1].last_step, side="right"))
    firsts = np.array([span.first_step for span in spans])
    target = np.maximum(np.searchsorted(firsts, points.step[:beyond], side="right") - 1, 0)
    groups = [([spans[index]], points[:beyond][target == index]) for index in np.unique(target)]
    fresh = points[beyond:]
    if len(fresh):
        taken: list[Span] = []
        size = len(fresh)
        rewritten = {span.first_step for group, _ in groups for span in group}
        for span in reversed(spans):
            if span.first_step in rewritten or span.points >= CHUNK_POINTS or span.points > 2 * size:
                break
            taken.insert(0, span)
            size += span.points
        groups.append((taken, fresh))
    return groups
