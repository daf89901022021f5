"""Exports: every point once, with its value, in files that other programs read; bounded and never silently short."""

import asyncio
import io
import json
import math
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from service_harness import Running, until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_command_line import Adadim, adadim  # noqa: F401 - a fixture
from test_reports import Reporter, points

from service.exports import service as exports
from service.exports.formats import Csv, Parquet

SCHEMA = pa.schema(
    [
        ("trial", pa.int32()), ("metric", pa.string()), ("step", pa.int64()), ("epoch", pa.float32()),
        ("time", pa.float64()), ("value", pa.float64()), ("configuration", pa.int32()), ("seed", pa.int64()),
        ("training.lr", pa.float64()),
    ]
)  # fmt: skip
ODD = ["NaN", "Infinity", "-Infinity", 0.1, -1.5e-300, 1e300]


async def filled(service: Running) -> tuple[int, list[tuple[Any, ...]]]:
    """An experiment with points of three trials, and the rows an export of it should have."""
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(1, [1, 2, 3, 4, 5, 6], ODD)])
    await reporter.accepted(series=[points(0, list(range(1, 301)), [k / 3 for k in range(300)], "loss")])
    await reporter.accepted(series=[points(1, [2], [7.0], "alpha"), points(0, [5], [0.25])])
    rows = [(0, "loss", k + 1, k / 3) for k in range(300)] + [(0, "h_r", 5, 0.25), (1, "alpha", 2, 7.0)]
    rows += [(1, "h_r", k + 1, float(value)) for k, value in enumerate(ODD)]
    return reporter.experiment_id, rows


def same(found: pa.Table, rows: list[tuple[Any, ...]]) -> None:
    columns = (found.column(name).to_pylist() for name in ("trial", "metric", "step", "value"))
    key = {row[:3]: row[3] for row in zip(*columns, strict=True)}
    assert len(key) == len(found) == len(rows)
    for trial, metric, step, value in rows:
        other = key[trial, metric, step]
        assert other == value or (math.isnan(other) and math.isnan(value)), (trial, metric, step)


async def test_csv_has_every_point_with_its_exact_value(service: Running) -> None:
    experiment_id, rows = await filled(service)
    answer = await service.http.get(f"/api/v1/experiments/{experiment_id}/points.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="experiment-{experiment_id}.csv"'
    lines = answer.text.splitlines()
    assert lines[0].replace('"', "") == ",".join(SCHEMA.names)
    assert [int(line.split(",")[0]) for line in lines[1:]] == [0] * 301 + [1] * 7  # in order
    types = pyarrow.csv.ConvertOptions(column_types=SCHEMA, null_values=[""])
    same(pyarrow.csv.read_csv(io.BytesIO(answer.content), convert_options=types), rows)


async def test_parquet_has_every_point_its_types_and_the_spec(service: Running) -> None:
    experiment_id, rows = await filled(service)
    answer = await service.http.get(f"/api/v1/experiments/{experiment_id}/points.parquet")
    file = pyarrow.parquet.ParquetFile(io.BytesIO(answer.content))
    assert file.schema_arrow.remove_metadata() == SCHEMA
    described = json.loads(file.schema_arrow.metadata[b"adadim"])
    assert (described["experiment"], described["spec"]["name"]) == (experiment_id, described["name"])
    same(file.read(), rows)
    assert file.read().column("time").to_pylist()[0] >= 1000.0


async def test_an_experiment_without_points_is_an_empty_file(service: Running) -> None:
    experiment = await service.submit()
    url = f"/api/v1/experiments/{experiment['id']}/points"
    assert (await service.http.get(f"{url}.csv")).text.count("\n") == 1
    assert len(pyarrow.parquet.read_table(io.BytesIO((await service.http.get(f"{url}.parquet")).content))) == 0
    assert (await service.http.get("/api/v1/experiments/4711/points.csv")).status_code == 404
    assert (await service.http.get(f"{url}.xls")).status_code == 422


@pytest.mark.parametrize("encoder", [Csv(), Parquet({})])
def test_bytes_come_out_as_rows_go_in(encoder: Csv | Parquet) -> None:
    columns = [[1] * 9, ["h_r"] * 9, range(9), [0.0] * 9, [0.0] * 9, [0.5] * 9, [0] * 9, [0] * 9, [0.1] * 9]
    table = pa.table(columns, schema=SCHEMA)
    encoder.begin(SCHEMA)
    pieces = [encoder.add(table) for _ in range(5)]
    assert all(len(piece) > 20 for piece in pieces)
    whole = io.BytesIO(b"".join(pieces) + encoder.end())
    read = pyarrow.csv.read_csv if isinstance(encoder, Csv) else pyarrow.parquet.read_table
    assert len(read(whole)) == 45


async def test_a_client_that_does_not_read_is_cut_off_and_gives_its_connection_back(
    service: Running, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_ROWS", 1)
    experiment_id, _ = await filled(service)

    async def snapshots(number: int) -> bool:
        admin = await asyncpg.connect(postgres)
        count = await admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND datname LIKE 'test_%'"
        )
        await admin.close()
        return bool(count == number)

    pieces = exports.stream(service.context, experiment_id, "points", Csv())
    await anext(pieces)
    await until(lambda: snapshots(1), "the snapshot")
    await pieces.aclose()
    await until(lambda: snapshots(0), "the snapshot to end with its reader")
    monkeypatch.setattr(exports, "_PATIENCE_S", 0.2)
    pieces = exports.stream(service.context, experiment_id, "points", Csv())
    await anext(pieces)
    await until(lambda: snapshots(0), "the snapshot to end")
    with pytest.raises(exports.Aborted):
        async for _ in pieces:
            pass


async def test_an_export_that_is_cancelled_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(exports, "_write", write)
    before = asyncio.all_tasks()
    context: Any = None
    stream = exports.stream(context, 1, "points", Csv())
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: len(asyncio.all_tasks() - before) == 3)
    reading.cancel()
    await asyncio.wait({reading})
    assert asyncio.all_tasks() == before


async def test_an_export_that_breaks_off_is_a_broken_transfer(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id, _ = await filled(service)

    def broken(_: Csv, __: pa.Table) -> bytes:
        raise RuntimeError("no")

    monkeypatch.setattr(exports, "_ROWS", 1)
    add = Csv.add
    seen: list[int] = []

    def second_fails(self: Csv, table: pa.Table) -> bytes:
        seen.append(1)
        return add(self, table) if len(seen) == 1 else broken(self, table)

    monkeypatch.setattr(Csv, "add", second_fails)
    with pytest.raises(httpx.RemoteProtocolError):
        await service.http.get(f"/api/v1/experiments/{experiment_id}/points.csv")
    assert not exports.under_way.taken


async def test_more_exports_than_the_limit_are_told_to_wait(service: Running) -> None:
    experiment_id, _ = await filled(service)
    url = f"/api/v1/experiments/{experiment_id}/points.csv"
    for owner in ("grace", "grace", "alan", "alan"):
        exports.under_way.take(owner)
    try:
        refused = await service.http.get(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        exports.under_way.give_back("alan")
        assert (await service.http.get(url)).status_code == 200
        exports.under_way.take("alan")
    finally:
        for owner in ("grace", "grace", "alan", "alan"):
            exports.under_way.give_back(owner)
    assert (await service.http.get(url)).status_code == 200


async def test_the_command_writes_files_that_other_programs_read(
    adadim: Adadim,  # noqa: F811
    service: Running,
    tmp_path: Path,
) -> None:
    experiment_id, rows = await filled(service)
    for form in ("csv", "parquet"):
        result = await adadim("export", str(experiment_id), "--format", form, "-o", str(tmp_path / f"points.{form}"))
        assert result.exit_code == 0, result.output
    same(pyarrow.parquet.read_table(tmp_path / "points.parquet"), rows)
    assert names(tmp_path, "points*") == ["points.csv", "points.parquet"]

    folder = tmp_path / "board"
    result = await adadim("export", str(experiment_id), "--format", "tensorboard", "-o", str(folder))
    assert result.exit_code == 0, result.output
    assert "308 points" in result.output
    found = []
    for trial in (0, 1):
        events = EventAccumulator(str(folder / f"trial-{trial:04d}"), size_guidance={"scalars": 0}).Reload()
        for metric in events.Tags()["scalars"]:
            found += [(trial, metric, event.step, event.value) for event in events.Scalars(metric)]
            assert events.Scalars(metric)[0].wall_time >= 1000.0
    assert len(found) == len(rows)
    values = {row[:3]: row[3] for row in found}
    assert values[0, "loss", 300] == pytest.approx(299 / 3, rel=1e-6)
    assert math.isnan(values[1, "h_r", 1])
    again = await adadim("export", str(experiment_id), "--format", "tensorboard", "-o", str(folder))
    assert again.exit_code == 1
    assert "already" in again.stderr
    missing = await adadim("export", "4711", "-o", str(tmp_path / "none.csv"))
    assert missing.exit_code == 1
    assert names(tmp_path, "none*") == []


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))
