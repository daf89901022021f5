"""Reading series: what downsampling keeps, checked against a plain Python oracle."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_harness import Running
from sqlalchemy import text

from adadim_core.spec.report import Series
from service.context import Context
from service.database.engine import Database
from service.database.tables import Experiment, Trial
from service.metrics import repository
from service.metrics import service as metrics


async def write(database: Database, trials: Sequence[dict[str, list[tuple[int, float]]]]) -> list[int]:
    """Store series by metric name for each trial; the trials' ids."""
    async with database.transaction() as session:
        await session.execute(text("TRUNCATE experiments, points, metrics RESTART IDENTITY CASCADE"))
        experiment = Experiment(name="a", owner="a", spec={}, spec_text="", metric="h_r", mode="max",
                                trial_count=len(trials))  # fmt: skip
        session.add(experiment)
        await session.flush()
        rows = [Trial(experiment_id=experiment.id, number=n, params={}, latest={}) for n in range(len(trials))]
        session.add_all(rows)
        await session.flush()
        for row, series in zip(rows, trials, strict=True):
            for name, found in series.items():
                steps, values = [s for s, _ in found], [v for _, v in found]
                part = Series(trial=row.number, steps=steps, epochs=[0.0] * len(steps), times=[0.0] * len(steps),
                              values={name: list(values)})  # fmt: skip
                await metrics.write(session, experiment, [part], {row.number: row})
        return [row.id for row in rows]


async def read(
    database: Database, trial_ids: Sequence[int], max_points: int, names: Sequence[str] | None = None
) -> list[tuple[int, str, int, float, int]]:
    async with database.transaction() as session:
        rows = await repository.downsampled(session, trial_ids, names, max_points)
    return [(r.trial_id, r.metric, r.step, r.value, r.total) for r in rows]


def oracle(found: list[tuple[int, float]], max_points: int) -> list[tuple[int, float]]:
    """First, last, smallest and largest of each bucket; NaN is larger than everything, ties go to the smaller step."""
    found = sorted(found)
    if len(found) <= max_points:
        return found
    buckets: dict[int, list[tuple[int, float]]] = {}
    for position, point in enumerate(found):
        buckets.setdefault(position * max(max_points // 4, 1) // len(found), []).append(point)
    kept: set[int] = set()
    for bucket in buckets.values():
        rank = [(math.isnan(v), 0.0 if math.isnan(v) else v, -s) for s, v in bucket]
        largest = bucket[rank.index(max(rank))][0]
        smallest = min((math.isnan(v), 0.0 if math.isnan(v) else v, s) for s, v in bucket)[2]
        kept |= {bucket[0][0], bucket[-1][0], smallest, largest}
    return [point for point in found if point[0] in kept]


def same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return repr(a) == repr(b)  # NaN is not equal to itself


_series = st.dictionaries(
    st.integers(0, 2**40), st.floats(width=32) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf]), min_size=1,
    max_size=60,
).map(lambda found: list(found.items()))  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(trials=st.lists(st.dictionaries(st.sampled_from(["h_r", "loss"]), _series), min_size=1, max_size=3),
       max_points=st.integers(4, 70))  # fmt: skip
async def test_downsampling_agrees_with_the_oracle(
    context: Context, trials: list[dict[str, list[tuple[int, float]]]], max_points: int
) -> None:
    database = context.database
    ids = await write(database, trials)
    expected = [
        (trial_id, name, step, value, len(series[name]))
        for trial_id, series in zip(ids, trials, strict=True)
        for name in sorted(series)
        for step, value in oracle(series[name], max_points)
    ]
    found = await read(database, ids, max_points)
    assert same(found, expected)
    assert same(await read(database, ids, max_points), found)  # deterministic
    for trial_id in ids:  # a trial alone is shown as among others
        assert same(await read(database, [trial_id], max_points), [row for row in found if row[0] == trial_id])


async def test_a_long_series_keeps_its_ends_its_spikes_and_its_bound(database: Database) -> None:
    found = [(step, math.sin(step)) for step in range(5000)]
    found[1234] = (1234, 1e9)
    found[2345] = (2345, -1e9)
    found[3456] = (3456, math.nan)
    found[4567] = (4567, math.inf)
    (trial_id,) = await write(database, [{"loss": found}])
    for max_points in (4, 5, 7, 100, 999, 4999):
        shown = await read(database, [trial_id], max_points)
        steps = [step for _, _, step, _, _ in shown]
        assert len(shown) <= max_points
        assert steps[0] == 0
        assert steps[-1] == 4999
        assert 2345 in steps
        assert {row[-1] for row in shown} == {5000}
    assert {1234, 2345, 3456, 4567} <= set(steps)
    assert len(await read(database, [trial_id], 5000)) == 5000


async def test_names_choose_metrics_and_unknown_ones_give_nothing(database: Database) -> None:
    ids = await write(database, [{"loss": [(1, 1.0)], "h_r": [(1, 2.0)]}, {"loss": [(1, 3.0)]}])
    assert [(t, name) for t, name, *_ in await read(database, ids, 10, ["loss"])] == [
        (ids[0], "loss"),
        (ids[1], "loss"),
    ]
    assert await read(database, ids, 10, ["nothing"]) == []
    assert await read(database, [], 10) == []


async def test_series_over_http(service: Running) -> None:
    ids = await write(
        service.context.database,
        [{"loss": [(n, float(n)) for n in range(100)]}, {"loss": [(0, math.nan)], "h_r": [(0, 1.0)]}],
    )
    path = "/api/v1/experiments/1/metrics"
    answer = (await service.http.get(path, params={"metrics": "loss", "max_points": 20})).json()
    assert answer["experiment_id"] == 1
    assert answer["seq"] == 3
    assert [(s["trial"], s["metric"], s["total"]) for s in answer["series"]] == [(0, "loss", 100), (1, "loss", 1)]
    assert len(answer["series"][0]["steps"]) <= 20
    assert answer["series"][1]["values"] == ["NaN"]
    one = (await service.http.get(f"/api/v1/trials/{ids[1]}/metrics")).json()
    assert [(s["trial"], s["metric"]) for s in one["series"]] == [(1, "h_r"), (1, "loss")]


@pytest.mark.parametrize(
    "query", ["max_points=3", "max_points=10001", "metrics=", "metrics=a,,b", "metrics=A", "metrics=a;b"]
)
async def test_a_question_that_cannot_be_is_422(service: Running, query: str) -> None:
    await service.submit()
    assert (await service.http.get(f"/api/v1/experiments/1/metrics?{query}")).status_code == 422
