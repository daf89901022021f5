"""The laws of points: settling forgets order and repeats, thinning composes and keeps extremes, bytes lose nothing."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.metrics.chunks import CHUNK_POINTS, Span, build, place
from service.metrics.codec import decode, decode_summaries, encode
from service.metrics.points import Points, bucket_level, series_key, split_key

_VALUES = st.floats(width=32) | st.floats() | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])
_ROWS = st.lists(
    st.tuples(
        st.sampled_from([series_key(0, 1), series_key(0, 2), series_key(2**31 - 1, 2**31 - 1)]),
        st.integers(0, 40) | st.integers(0, 2**62),
        st.floats(0, 1e9, width=32),
        st.sampled_from([1.0, 1000.123, 1.7e9, -5.0]) | st.floats(allow_nan=False, allow_infinity=False),
        _VALUES,
    ),
    max_size=80,
)


def columns(rows: list[tuple[int, int, float, float, float]]) -> Points:
    return Points.of(*zip(*rows, strict=True)) if rows else Points.concat([])


def listed(points: Points) -> list[tuple[str, ...]]:
    """For comparing: NaN equals NaN, and -0.0 is not 0.0."""
    names = ("series", "step", "epoch", "time", "value")
    return [tuple(map(repr, row)) for row in zip(*(getattr(points, name).tolist() for name in names), strict=True)]


@given(_ROWS, st.randoms(use_true_random=False))
def test_settled_points_depend_on_neither_order_nor_repeats(rows: list, shuffle: random.Random) -> None:
    once = columns(rows).settled()
    again = rows + shuffle.sample(rows, len(rows) // 2)
    shuffle.shuffle(again)
    # parts settled by themselves, as chunks and tails are, give the same
    cut = shuffle.randint(0, len(again))
    parts = Points.concat([columns(again[:cut]).settled(), columns(again[cut:])]).settled()
    places = [(series, step) for series, step, *_ in listed(once)]
    assert len(set(places)) == len(places) == len({row[:2] for row in rows})
    # equal but for the sign of zero, which no order tells apart
    assert [r[:3] for r in listed(parts)] == [r[:3] for r in listed(once)]
    np.testing.assert_array_equal(parts.time, once.time)
    np.testing.assert_array_equal(parts.value, once.value)


@given(_ROWS, st.integers(0, 63), st.integers(0, 63))
def test_thinning_what_was_thinned_gives_the_same(rows: list, low: int, more: int) -> None:
    points = columns(rows).settled()
    high = min(low + more, 63)
    assert listed(points.thinned(low).thinned(high)) == listed(points.thinned(high))


@given(_ROWS, st.integers(0, 63))
def test_thinning_keeps_ends_extremes_and_what_is_no_number(rows: list, level: int) -> None:
    points = columns(rows).settled()
    kept = {
        (int(s), int(step)) for s, step in zip(points.thinned(level).series, points.thinned(level).step, strict=True)
    }
    buckets: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for series, step, value in zip(points.series.tolist(), points.step.tolist(), points.value.tolist(), strict=True):
        buckets.setdefault((series, step >> level), []).append((step, value))
    expected = set()
    for (series, _), found in buckets.items():
        finite = [(value, step) for step, value in found if math.isfinite(value)]
        odd = [step for step, value in found if not math.isfinite(value)]
        steps = {found[0][0], found[-1][0], *odd[:1], *odd[-1:]}
        if finite:
            lowest, highest = min(finite)[0], max(finite)[0]
            steps |= {min(s for v, s in finite if v == lowest), min(s for v, s in finite if v == highest)}
        expected |= {(series, step) for step in steps}
    assert kept == expected


@given(_ROWS)
@example([(1, 0, 0.0, -0.0, 0.0)])
def test_a_body_gives_back_every_bit(rows: list) -> None:
    points = columns(rows)
    assert listed(decode(encode(points, with_series=True))) == listed(points)


def test_a_body_of_a_later_version_says_so() -> None:
    body = encode(columns([(1, 1, 1.0, 1.0, 1.0)]), with_series=True)
    with pytest.raises(ValueError, match="newer service"):
        decode(b"\x02" + body[1:])


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_series_key_holds_trial_and_metric(trial: int, metric: int) -> None:
    assert split_key(series_key(trial, metric)) == (trial, metric)


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 3000))
def test_the_level_is_the_lowest_that_fits(a: int, b: int, buckets: int) -> None:
    first, last = min(a, b), max(a, b)
    level = bucket_level(first, last, buckets)
    assert (last >> level) - (first >> level) + 1 <= buckets
    assert level == 0 or (last >> level - 1) - (first >> level - 1) + 1 > buckets


_STEPS = st.lists(st.integers(0, 500), min_size=1, max_size=60, unique=True)


@settings(max_examples=60)
@given(st.lists(_STEPS, min_size=1, max_size=12))
def test_chunks_never_overlap_and_hold_everything(batches: list[list[int]]) -> None:
    """What merging does, in memory, with chunks of a few points."""
    stored: dict[int, Points] = {}
    for steps in batches:
        new = columns([(1, step, 0.0, 1.0, float(step)) for step in steps]).settled()
        spans = [Span(int(p.step[0]), int(p.step[-1]), len(p)) for _, p in sorted(stored.items())]
        for taken, part in place(new, spans):
            merged = Points.concat([*(stored.pop(span.first_step) for span in taken), part]).settled()
            for at in range(0, len(merged), 7):
                piece = merged[at : at + 7]
                assert int(piece.step[0]) not in stored
                stored[int(piece.step[0])] = piece
        order = [p for _, p in sorted(stored.items())]
        assert all(a.step[-1] < b.step[0] for a, b in pairwise(order))
    assert sorted({step for steps in batches for step in steps}) == Points.concat(order).step.tolist()


def test_small_appends_make_chunks_that_double() -> None:
    spans: list[Span] = []
    written = 0
    for n in range(2000):
        new = columns([(1, step, 0.0, 1.0, 1.0) for step in range(8 * n, 8 * n + 8)])
        for taken, part in place(new, spans):
            size = sum(span.points for span in taken) + len(part)
            first = taken[0].first_step if taken else int(part.step[0])
            spans = [s for s in spans if s not in taken]
            for at in range(0, size, CHUNK_POINTS):
                n_here = min(CHUNK_POINTS, size - at)
                spans.append(Span(first + at, first + at + n_here - 1, n_here))
            written += size
    assert len(spans) <= 16_000 // CHUNK_POINTS + 14
    assert written < 16_000 * 14  # each point is rewritten a logarithm of times


def test_a_summary_stands_for_its_chunk() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_000)
    values[5000:5100], values[77] = np.nan, 1e9
    points = Points.of(7, np.arange(10_000) * 10, np.arange(10_000) / 390, 1.7e9 + np.arange(10_000), values)
    chunks = build(points)
    assert [chunk.points for chunk in chunks] == [4096, 4096, 1808]
    level = max(chunk.level for chunk in chunks)
    summaries = decode_summaries([7] * len(chunks), [chunk.summary for chunk in chunks])
    assert len(summaries) < len(points) / 15
    assert listed(summaries.thinned(level + 2)) == listed(points.thinned(level + 2))
    assert sum(len(chunk.body) + len(chunk.summary) for chunk in chunks) < 15 * len(points)
