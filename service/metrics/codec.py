"""Points as bytes: the body of a segment and of a chunk, and the summary of a chunk.

A body is lossless: columns are differenced where that helps, bytes of equal significance are put side by side and
everything goes through zstd. A summary is plain records, so that thousands of them are read as one array.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from service.metrics.points import Points

_HEAD = struct.Struct("<BBI")  # version, flags, number of points
_VERSION = 1
_WITH_SERIES, _TIME_IN_MS, _VALUE_IS_FLOAT32 = 1, 2, 4
_ZSTD = pa.Codec("zstd", compression_level=1)

_SUMMARY = np.dtype([("step", "<i8"), ("epoch", "<f4"), ("time", "<f8"), ("value", "<f8")])


def encode(points: Points, *, with_series: bool) -> bytes:
    """A body. Without series its reader must know the series; all points must be of that one."""
    flags = _WITH_SERIES * with_series
    columns = [_differences(points.series.astype("<i8"))] if with_series else []
    columns += [_differences(points.step.astype("<i8")), _differences(points.epoch.astype("<f4").view("<u4"))]
    with np.errstate(over="ignore", invalid="ignore"):
        in_ms = np.rint(points.time * 1000.0)
        whole = bool((np.abs(in_ms) < 2.0**52).all())
        if whole and _same_bits(in_ms.astype("<i8") / 1000.0, points.time):
            flags |= _TIME_IN_MS
            columns.append(_differences(in_ms.astype("<i8")))
        else:
            columns.append(_differences(points.time.astype("<f8").view("<u8")))
        short = points.value.astype("<f4")
        if np.array_equal(short.astype("<f8"), points.value, equal_nan=True):
            flags |= _VALUE_IS_FLOAT32
            columns.append(_shuffled(short))
        else:
            columns.append(_shuffled(points.value.astype("<f8")))
    packed: bytes = _ZSTD.compress(b"".join(columns), asbytes=True)
    return _HEAD.pack(_VERSION, flags, len(points)) + packed


def decode(body: bytes, series: int | None = None) -> Points:
    """The points of a body. Raises ValueError for bytes no version wrote."""
    version, flags, n = _HEAD.unpack_from(body)
    if version != _VERSION:
        raise ValueError(f"a body of version {version} was written by a newer service")
    layout = [("<i8", True)] if flags & _WITH_SERIES else []
    layout += [("<i8", True), ("<u4", True), ("<i8" if flags & _TIME_IN_MS else "<u8", True)]
    layout.append(("<f4" if flags & _VALUE_IS_FLOAT32 else "<f8", False))
    size = n * sum(np.dtype(kind).itemsize for kind, _ in layout)
    raw = _ZSTD.decompress(memoryview(body)[_HEAD.size :], decompressed_size=size, asbytes=True) if n else b""
    columns, at = [], 0
    for kind, differenced in layout:
        end = at + n * np.dtype(kind).itemsize
        column = _unshuffled(raw[at:end], kind, n)
        columns.append(np.cumsum(column, dtype=column.dtype) if differenced else column)
        at = end
    key = columns.pop(0) if flags & _WITH_SERIES else series
    step, epoch, time, value = columns
    seconds = time / 1000.0 if flags & _TIME_IN_MS else time.view("<f8")
    return Points.of(key, step, epoch.view("<f4"), seconds, value)


def encode_summary(points: Points) -> bytes:
    """Points of one series as records of 28 bytes."""
    records = np.empty(len(points), _SUMMARY)
    for name in _SUMMARY.names or ():
        records[name] = getattr(points, name)
    return records.tobytes()


def decode_summaries(keys: Sequence[int], summaries: Sequence[bytes]) -> Points:
    """The points of many summaries, each of the series with the key at its place."""
    records = np.frombuffer(b"".join(summaries), _SUMMARY)
    counts = [len(summary) // _SUMMARY.itemsize for summary in summaries]
    series = np.repeat(np.asarray(keys, np.int64), counts)
    return Points.of(series, *(records[name] for name in _SUMMARY.names or ()))


def _same_bits(one: Any, other: Any) -> bool:
    """Of two arrays of float64: -0.0 is not 0.0."""
    return np.array_equal(one.view("<u8"), other.astype("<f8").view("<u8"))


def _differences(column: Any) -> bytes:
    """Differences of neighbours, wrapping round: equal steps become equal bytes."""
    return _shuffled(np.diff(column, prepend=column.dtype.type(0)))


def _shuffled(column: Any) -> bytes:
    """Bytes by significance: the high bytes of neighbours are alike, the low ones are not."""
    size = column.dtype.itemsize
    found: bytes = np.ascontiguousarray(column).view(np.uint8).reshape(-1, size).T.tobytes()
    return found


def _unshuffled(raw: bytes, kind: str, n: int) -> Any:
    size = np.dtype(kind).itemsize
    return np.frombuffer(raw, np.uint8).reshape(size, n).T.copy().view(kind).reshape(n)
