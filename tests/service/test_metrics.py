"""Series stored and read: against a model in memory, however points come, lie and are asked for."""

import asyncio
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from service_harness import Running, until
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from adadim_core.spec.report import ReportReply, Series
from service.attempts.body import Delivery
from service.attempts.receiving import receive
from service.context import Context
from service.database.engine import Database
from service.database.tables import Attempt, Chunk, Experiment, Segment, Trial
from service.metrics import merger as merger_module
from service.metrics import reading, repository
from service.metrics.merger import Merger, age_out, delete_points, merge
from service.metrics.points import Points, bucket_level, split_key
from service.metrics.reading import Range
from service.metrics.reported import ReportedSeries

Row = tuple[int, str, int, float, float]
"""Trial, metric, step, time, value. The epoch is a hundredth of the step."""


def epoch(step: int) -> float:
    return min(step / 100, 1e9)


async def prepare(database: Database, trials: int) -> None:
    async with database.transaction() as session:
        await session.execute(text("TRUNCATE experiments, metrics RESTART IDENTITY CASCADE"))
        experiment = Experiment(name="a", owner="a", spec={}, spec_text="", metric="h_r", mode="max",
                                trial_count=trials)  # fmt: skip
        session.add(experiment)
        await session.flush()
        session.add_all([Trial(experiment_id=1, number=n, params={}, latest={}) for n in range(trials)])
        session.add(Attempt(experiment_id=1, number=0, submission_id="a", token_hash=b"", state="running"))


async def report(database: Database, series: Sequence[ReportedSeries]) -> None:
    """One report of the experiment's attempt."""
    async with database.transaction() as session:
        answers = await receive(session, 1, [Delivery([], list(series), None)])
    assert answers == [ReportReply(directive="continue")]


async def write(database: Database, rows: Sequence[Row]) -> None:
    """One report, a series a point."""
    series = [
        Series(trial=trial, steps=[step], epochs=[epoch(step)], times=[time], values={name: [value]})
        for trial, name, step, time, value in rows
    ]
    await report(database, [ReportedSeries.of(one) for one in series])


async def read(
    database: Database,
    max_points: int | None,
    names: Sequence[str] | None = None,
    span: Range = Range(),  # noqa: B008
) -> tuple[list[tuple[int, str, int, str]], dict[tuple[int, str], int]]:
    """Points (trial, metric, step, value) and totals."""
    async with database.snapshot() as session:
        experiment = await session.get_one(Experiment, 1)
        trials = (await session.scalars(select(Trial))).all()
        found = await reading.read(session, experiment, trials, names, max_points, span)
    return listed(found.points, found.names), {
        (split_key(key)[0], found.names[split_key(key)[1]]): total for key, total in found.totals.items()
    }


def listed(points: Points, names: dict[int, str]) -> list[tuple[int, str, int, str]]:
    found = zip(points.series.tolist(), points.step.tolist(), points.value.tolist(), strict=True)
    return [(split_key(key)[0], names[split_key(key)[1]], step, repr(value)) for key, step, value in found]


def model(rows: Sequence[Row]) -> dict[tuple[int, str], dict[int, tuple[float, float]]]:
    """What must be there: of each step what was measured last, of equal times the larger value, NaN above all."""
    found: dict[tuple[int, str], dict[int, tuple[float, float]]] = {}

    def rank(point: tuple[float, float]) -> tuple[float, bool, float]:
        return point[0], math.isnan(point[1]), 0.0 if math.isnan(point[1]) else point[1]

    for trial, name, step, time, value in rows:
        series = found.setdefault((trial, name), {})
        if step not in series or rank(series[step]) < rank((time, value)):
            series[step] = (time, value)
    return found


def chosen(rows: Sequence[Row], max_points: int | None, span: Range) -> list[tuple[int, str, int, str]]:
    """The model's answer, in the order of trials and of metrics as they were first named."""
    found = []
    for (trial, name), series in model(rows).items():
        at = {"step": float, "epoch": lambda s: np.float32(epoch(s)), "time": lambda s: series[s][0]}[span.column]  # noqa: B023
        steps = [
            s for s in sorted(series)
            if (span.low is None or at(s) >= span.low) and (span.high is None or at(s) <= span.high)
        ]  # fmt: skip
        if not steps:
            continue
        points = Points.of(0, steps, [0.0] * len(steps), [0.0] * len(steps), [series[s][1] for s in steps])
        if max_points is not None and len(steps) > max_points:
            level = bucket_level(steps[0], steps[-1], max(max_points // 4, 1))
            while len(thin := points.thinned(level)) > max_points and level < 63:
                level += 1
            points = thin
        found += [
            (trial, name, step, repr(v)) for step, v in zip(points.step.tolist(), points.value.tolist(), strict=True)
        ]
    return found


_VALUE = st.sampled_from([0.0, 1.0, -2.5, 0.1, math.nan, math.inf, -math.inf])
_REPORT = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["h_r", "loss"]),
              st.integers(60, 75) | st.integers(0, 150) | st.integers(0, 2**62), st.integers(1, 5).map(float), _VALUE),
    max_size=40,
)  # fmt: skip
_ENDS = {"step": st.integers(0, 150), "epoch": st.integers(0, 150).map(epoch), "time": st.integers(1, 5)}
_SPAN = st.sampled_from(list(_ENDS)).flatmap(
    lambda column: st.builds(Range, st.just(column), st.none() | _ENDS[column], st.none() | _ENDS[column])
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    operations=st.lists(_REPORT | st.just("merge"), max_size=8), max_points=st.none() | st.integers(6, 60), span=_SPAN
)
@example(  # what comes late and lies in the range is superseded by what was merged and does not
    operations=[[(0, "loss", 1, 5.0, 1.0)], "merge", [(0, "loss", 1, 2.0, 9.0)]],
    max_points=None,
    span=Range("time", 1.0, 3.0),
)
@example(  # 0.7 is less as a float32 than as a double
    operations=[[(0, "loss", 70, 1.0, 1.0)], "merge"], max_points=None, span=Range("epoch", 0.7, None)
)
async def test_what_is_read_is_what_was_written(
    context: Context, operations: list[Any], max_points: int | None, span: Range
) -> None:
    """Reports in any order, repeated and overlapping, merged at any moment: the model's points, thinned or whole."""
    database, rows = context.database, []
    await prepare(database, 2)
    for operation in operations:
        if operation == "merge":
            await merge(database, 1)
        else:
            rows += operation
            await write(database, operation)
    everything = sorted(chosen(rows, None, Range()))
    found, totals = await read(database, None)
    assert sorted(found) == everything
    assert totals == {key: len(series) for key, series in model(rows).items()}
    wanted = sorted(chosen(rows, max_points, span))
    found, totals = await read(database, max_points, span=span)
    assert sorted(found) == wanted
    assert sum(totals.values()) == len(chosen(rows, None, span))
    async with database.transaction() as session:
        latest = {t.number: t.latest for t in await session.scalars(select(Trial))}
    for (trial, name), series in model(rows).items():
        last = max(series)
        entry = latest[trial][name]
        assert (entry["step"], entry["time"], repr(float(entry["value"]))) == (
            last,
            series[last][0],
            repr(series[last][1]),
        )


async def fill(database: Database, points: int, at_once: int = 5000) -> None:
    """A series with spikes and a NaN run, written in reports and merged now and then."""
    await prepare(database, 1)
    for start in range(0, points, at_once):
        steps = list(range(start, start + at_once))
        values = [{12_345: 1e9, 23_456: -1e9}.get(s, math.nan if 30_000 <= s < 30_500 else math.sin(s)) for s in steps]
        times = [1e9 + s for s in steps]
        await report(database, [ReportedSeries(0, steps, [s / 100 for s in steps], times, {"loss": values})])
        if start // at_once % 2:
            await merge(database, 1)


async def test_a_long_series_keeps_its_ends_spikes_and_nan_runs(database: Database) -> None:
    await fill(database, 45_000)
    for max_points in (6, 7, 100, 999, 10_000):
        found, totals = await read(database, max_points)
        steps = [step for _, _, step, _ in found]
        assert totals == {(0, "loss"): 45_000}
        assert len(steps) <= max_points
        assert steps == sorted(set(steps))
        assert (steps[0], steps[-1]) == (0, 44_999)
        assert {12_345, 23_456, 30_000, 30_499} <= set(steps)
        again, _ = await read(database, max_points)
        assert again == found
    async with database.transaction() as session:
        chunks = (await session.scalars(select(Chunk))).all()
    assert sum(chunk.points for chunk in chunks) == 40_000
    part, totals = await read(database, 50, span=Range("epoch", 100.0, 102.0))
    assert totals == {(0, "loss"): 201}
    assert (part[0][2], part[-1][2]) == (10_000, 10_200)
    raw, _ = await read(database, None, span=Range("time", 1e9 + 20_000, 1e9 + 24_999))
    assert [step for _, _, step, _ in raw] == list(range(20_000, 25_000))


async def test_what_a_summary_says_is_what_the_points_say(database: Database) -> None:
    """The same points, merged and not merged, give the same answer."""
    await fill(database, 30_000, at_once=10_000)
    mixed = [await read(database, n) for n in (20, 300, 2000)]
    await merge(database, 1)
    assert [await read(database, n) for n in (20, 300, 2000)] == mixed


async def test_raw_points_come_in_batches_and_in_order(database: Database) -> None:
    await fill(database, 45_000)
    await write(database, [(0, "h_r", 1, 1.0, 5.0), (0, "loss", 7, 2e9, 77.0), (0, "loss", 10**6, 2e9, 88.0)])
    async with database.snapshot() as session:
        experiment, trials = await session.get_one(Experiment, 1), (await session.scalars(select(Trial))).all()
        batches = [part async for part in reading.raw_points(session, experiment, trials, chunks_at_once=2)]
    assert max(map(len, batches)) <= 3 * 4096
    whole = Points.concat(batches)
    found, _ = await read(database, None)
    assert sorted(zip(whole.series.tolist(), whole.step.tolist(), strict=True)) == list(
        zip(whole.series.tolist(), whole.step.tolist(), strict=True)
    )
    assert len(whole) == len(found) == 45_002
    assert 77.0 in whole.value


async def test_a_merge_that_dies_changes_nothing_and_the_next_one_does_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, 15_000)
    before = await read(database, None)

    async def dies(*_: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr("service.metrics.repository.mark_merged", dies)
        with pytest.raises(ConnectionResetError):
            await merge(database, 1)
    assert await read(database, None) == before
    assert await merge(database, 1) == 1
    assert await read(database, None) == before
    assert await merge(database, 1) == 0


async def test_merges_readers_and_writers_do_not_disturb_each_other(database: Database) -> None:
    """Readers see each committed point exactly once all the while; two merges at once are one."""
    await prepare(database, 1)
    written = 0
    done = asyncio.Event()

    async def reader() -> None:
        while not done.is_set():
            least = written
            found, totals = await read(database, None)
            steps = [step for _, _, step, _ in found]
            assert steps == list(range(len(steps)))
            assert len(steps) >= least
            assert sum(totals.values()) == len(steps)

    async def merger() -> None:
        while not done.is_set():
            await merge(database, 1)
            await asyncio.sleep(0)

    others = [asyncio.create_task(one()) for one in (reader, reader, merger, merger)]
    for start in range(0, 1500, 10):
        await write(database, [(0, "loss", step, 1.0, 1.0) for step in range(start, start + 10)])
        written = start + 10
    done.set()
    await asyncio.gather(*others)


async def test_idle_points_are_merged_and_old_segments_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await prepare(database, 1)
    await write(database, [(0, "loss", 1, 1.0, 1.0)])
    merger = Merger(database, None)
    await merger.merge_due()
    async with database.transaction() as session:
        assert (await session.scalars(select(Chunk))).all() == []  # not worth it yet
    monkeypatch.setattr("service.metrics.merger._IDLE_S", 0.0)
    monkeypatch.setattr("service.metrics.merger._KEEP_SEGMENTS_S", 0.0)
    await merger.merge_due()
    await merger.drop_merged()
    async with database.transaction() as session:
        assert (await session.scalars(select(Segment))).all() == []
        experiment = await session.get_one(Experiment, 1)
        assert experiment.merged_seq == experiment.seq == 1
    assert (await read(database, None))[0] == [(0, "loss", 1, "1.0")]


async def test_a_merge_whose_chunks_are_deleted_meanwhile_fails_and_does_not_hang(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, 15_000)
    original = repository.chunk_bytes

    async def deleted_before(session: Any, keys: Any, column: str) -> list[bytes]:
        async with database.transaction() as other:
            await other.execute(text("DELETE FROM chunks"))
        return await original(session, keys, column)

    with monkeypatch.context() as patch:
        patch.setattr("service.metrics.repository.chunk_bytes", deleted_before)
        async with asyncio.timeout(60):
            with pytest.raises(DBAPIError, match="could not serialize"):
                await merge(database, 1)
    assert await merge(database, 1) == 1
    async with database.snapshot() as session:
        with pytest.raises(LookupError, match="1 chunks were there, 0 are"):
            await repository.chunk_bytes(session, [(1, 1, 10**9)], "body")


async def test_an_experiment_that_cannot_be_merged_keeps_no_other_from_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepare(database, 1)
    async with database.transaction() as session:
        session.add(Experiment(name="b", owner="a", spec={}, spec_text="", metric="h_r", mode="max", trial_count=1))
        await session.flush()
        await repository.add_segment(session, 2, 1, 10**6, b"no points")  # the largest: first in line
    await write(database, [(0, "loss", 1, 1.0, 1.0)])
    monkeypatch.setattr("service.metrics.merger._IDLE_S", 0.0)
    monkeypatch.setattr("service.metrics.merger._KEEP_SEGMENTS_S", 0.0)
    tries = []
    original = merger_module.merge
    monkeypatch.setattr("service.metrics.merger.merge", lambda db, number: tries.append(number) or original(db, number))
    merger = Merger(database, None)
    await merger.merge_due()
    await merger.merge_due()
    assert tries == [2, 1]  # it is not tried again at once
    await merger.drop_merged()
    async with database.transaction() as session:
        assert [s.experiment_id for s in await session.scalars(select(Segment))] == [2]


async def test_dropping_segments_waits_for_the_experiment_before_it_holds_any(database: Database) -> None:
    """Else it and a deletion, which holds the experiment and waits for its segments, would wait for each other."""
    await prepare(database, 1)
    await write(database, [(0, "loss", 1, 1.0, 1.0)])
    await merge(database, 1)

    async def drop() -> int:
        async with database.transaction() as session:
            return await repository.drop_merged(session, 0.0, 100)

    async with database.transaction() as session:
        await session.get_one(Experiment, 1, with_for_update=True)
        dropping = asyncio.create_task(drop())
        await asyncio.sleep(0.2)
        await session.execute(text("DELETE FROM experiments"))
    assert await dropping == 0


async def test_deleting_points_waits_for_no_writer_and_holds_up_none(database: Database) -> None:
    await fill(database, 15_000)
    async with database.transaction() as writer:
        await writer.get_one(Experiment, 1, with_for_update=True)
        await writer.execute(text("UPDATE trials SET epoch = epoch + 1"))
        async with asyncio.timeout(60):
            await delete_points(database, 1, at_once=1)
    assert await read(database, None) == ([], {})


async def test_points_of_experiments_that_ended_long_ago_go(database: Database) -> None:
    await fill(database, 15_000)
    assert await age_out(database, 30) == 0
    async with database.transaction() as session:
        await session.execute(text("UPDATE experiments SET ended_at = now() - interval '31 days'"))
    assert await age_out(database, 32) == 0
    assert await age_out(database, 30) == 1
    assert await read(database, None) == ([], {})
    async with database.transaction() as session:
        trial = (await session.scalars(select(Trial))).one()
        experiment = await session.get_one(Experiment, 1)
    assert trial.latest["loss"]["step"] == 14_999
    assert experiment.merged_seq == experiment.seq


async def test_however_many_read_reports_find_a_connection(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await prepare(service.context.database, 1)
    reading_now, most, go_on = 0, 0, asyncio.Event()
    original = reading.read

    async def slow(*args: Any) -> reading.Found:
        nonlocal reading_now, most
        reading_now += 1
        most = max(most, reading_now)
        await go_on.wait()
        reading_now -= 1
        return await original(*args)

    monkeypatch.setattr(reading, "read", slow)
    asked = [asyncio.create_task(service.http.get("/api/v1/experiments/1/metrics")) for _ in range(30)]
    await until(lambda: most)
    await asyncio.sleep(0.3)
    await write(service.context.database, [(0, "loss", 1, 1.0, 1.0)])
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert most <= 4


async def test_series_over_http(service: Running) -> None:
    database = service.context.database
    await prepare(database, 2)
    await write(database, [(0, "loss", n, 5.0, float(n)) for n in range(100)])
    await write(database, [(1, "loss", 0, 5.0, math.nan), (1, "h_r", 0, 5.0, 1.0)])
    path = "/api/v1/experiments/1/metrics"
    answer = (await service.http.get(path, params={"metrics": "loss", "max_points": 20})).json()
    assert answer["experiment_id"] == 1
    assert answer["seq"] == 3  # two segments, and the experiment with its best trial
    assert [(s["trial"], s["metric"], s["total"]) for s in answer["series"]] == [(0, "loss", 100), (1, "loss", 1)]
    assert len(answer["series"][0]["steps"]) <= 20
    assert answer["series"][1]["values"] == ["NaN"]
    assert answer["series"][1] | {"epochs": [0.0], "times": [5.0]} == answer["series"][1]
    one = (await service.http.get("/api/v1/trials/2/metrics")).json()
    assert {(s["trial"], s["metric"]) for s in one["series"]} == {(1, "h_r"), (1, "loss")}
    some = (await service.http.get(path, params={"trials": "0-0,7", "by": "epoch", "start": 0.5, "raw": True})).json()
    assert [(s["trial"], s["total"], s["steps"][0]) for s in some["series"]] == [(0, 50, 50)]
    assert (await service.http.get(path, params={"states": "running"})).json()["series"] == []
    assert (await service.http.get(path, params={"metrics": "nothing"})).json()["series"] == []
    last = (await service.http.get(f"{path}/last")).json()
    assert last == {
        "experiment_id": 1, "seq": 3, "trials": [0, 1], "metrics": {"h_r": [None, 1.0], "loss": [99.0, "NaN"]},
        "steps": {"h_r": [None, 0], "loss": [99, 0]},
    }  # fmt: skip


async def test_series_as_arrow(service: Running) -> None:
    await prepare(service.context.database, 2)
    await write(service.context.database, [(1, "loss", 3, 5.0, math.inf), (0, "h_r", 2**62, 5.5, 1.0)])
    accept = {"Accept": "application/vnd.apache.arrow.stream, application/json;q=0.5"}
    response = await service.http.get("/api/v1/experiments/1/metrics", headers=accept)
    assert response.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(io.BytesIO(response.content)).read_all()
    assert table.schema.metadata == {b"experiment_id": b"1", b"seq": b"2"}
    assert table.to_pylist() == [
        {"trial": 0, "metric": "h_r", "step": 2**62, "epoch": 1e9, "time": 5.5, "value": 1.0},
        {"trial": 1, "metric": "loss", "step": 3, "epoch": pytest.approx(0.03), "time": 5.0, "value": math.inf},
    ]


async def test_long_answers_are_compressed_for_those_who_can_read_it(service: Running) -> None:
    await prepare(service.context.database, 1)
    await write(service.context.database, [(0, "loss", n, 5.0, float(n)) for n in range(2000)])
    path = "/api/v1/experiments/1/metrics?max_points=5000"
    small = await service.http.get(path, headers={"Accept-Encoding": "gzip"})
    plain = await service.http.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert small.json() == plain.json()
    assert int(small.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize(
    "query",
    ["max_points=3", "max_points=10001", "metrics=", "metrics=a,,b", "metrics=A", "metrics=a;b", "trials=1-", "by=x",
     "start=nan", "trials=x"],
)  # fmt: skip
async def test_a_question_that_cannot_be_is_422(service: Running, query: str) -> None:
    await service.submit()
    assert (await service.http.get(f"/api/v1/experiments/1/metrics?{query}")).status_code == 422


async def test_an_answer_too_large_is_422(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_RAW_POINTS", 99)
    await prepare(service.context.database, 1)
    await write(service.context.database, [(0, "loss", n, 5.0, float(n)) for n in range(100)])
    refused = await service.http.get("/api/v1/experiments/1/metrics?raw=true")
    assert (refused.status_code, refused.json()["title"]) == (422, "Too many points")
    assert (await service.http.get("/api/v1/experiments/1/metrics?max_points=50")).status_code == 200
