"""Chunks of points in the form of version 1, as migration 0003 writes them. Frozen: never edit it.

Not shared with service/metrics, whose classes and forms go on: every later codec reads version 1, because each body
says its version. This one spares the optional short forms of times and values.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_CHUNK_POINTS = 4096
_BUCKET_POINTS = 128
_VERSION, _FLAGS = 1, 0
_SUMMARY = np.dtype([("step", "<i8"), ("epoch", "<f4"), ("time", "<f8"), ("value", "<f8")])


def chunks(rows: Sequence[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Rows of table `chunks`, without their series.

    Args:
        rows: points of one series, (step, epoch, time, value) each, in order of their steps, which differ.
    """
    for at in range(0, len(rows), _CHUNK_POINTS):
        points = np.array([tuple(row) for row in rows[at : at + _CHUNK_POINTS]], _SUMMARY)
        step, epoch, time = points["step"], points["epoch"], points["time"]
        level = _level(int(step[0]), int(step[-1]), max(len(points) // _BUCKET_POINTS, 1))
        yield {
            "first_step": int(step[0]), "last_step": int(step[-1]), "points": len(points),
            "min_epoch": float(epoch.min()), "max_epoch": float(epoch.max()),
            "min_time": float(time.min()), "max_time": float(time.max()),
            "level": level, "summary": points[_kept(step, points["value"], level)].tobytes(), "body": _body(points),
        }  # fmt: skip


def _body(points: Any) -> bytes:
    columns = [np.diff(points[name].view(kind), prepend=np.dtype(kind).type(0)) for name, kind in
               (("step", "<i8"), ("epoch", "<u4"), ("time", "<u8"))]  # fmt: skip
    raw = b"".join(_by_significance(column) for column in (*columns, points["value"]))
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(raw, asbytes=True)
    return struct.pack("<BBI", _VERSION, _FLAGS, len(points)) + packed


def _by_significance(column: Any) -> bytes:
    bytes_of = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)
    found: bytes = bytes_of.T.tobytes()
    return found


def _level(first: int, last: int, buckets: int) -> int:
    """The lowest level at which the steps lie in at most so many buckets of 2**level steps."""
    level = 0
    while (last >> level) - (first >> level) + 1 > buckets and level < 63:
        level += 1
    return level


def _kept(step: Any, value: Any, level: int) -> Any:
    """Of each bucket: its first and last point, smallest and largest finite value, first and last other value."""
    keep = np.zeros(len(step), bool)
    bucket = step >> level
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
    for begin, end in zip(starts, np.append(starts[1:], len(step)), strict=True):
        keep[[begin, end - 1]] = True
        finite = begin + np.flatnonzero(np.isfinite(value[begin:end]))
        if len(finite):
            keep[[finite[np.argmin(value[finite])], finite[np.argmax(value[finite])]]] = True
        other = begin + np.flatnonzero(~np.isfinite(value[begin:end]))
        if len(other):
            keep[[other[0], other[-1]]] = True
    return keep
