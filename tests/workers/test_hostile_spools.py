"""Spools in storage that others can write to: whatever a line is, points beside it arrive, and the line is counted."""

import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_harness import FakeService, wait_for

from adadim_core.spec.report import MAX_METRICS_PER_SERIES
from workers.reporting import reporter as reporter_module
from workers.reporting.connection import Connection
from workers.reporting.reporter import PointReporter, replay
from workers.storage.spool import Point, Spool, SpoolReader, to_report

GOOD = {"trial": 0, "step": 1, "epoch": 0.5, "time": 1.0, "values": {"h_r": 1.0}}


def with_(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


HOSTILE = {
    "infinite step": b'{"trial": 0, "step": 1e999, "epoch": 0, "time": 1, "values": {"h_r": 1}}',
    "infinite trial": b'{"trial": 1e999, "step": 1, "epoch": 0, "time": 1, "values": {"h_r": 1}}',
    "infinite time": b'{"trial": 0, "step": 1, "epoch": 0, "time": 1e999, "values": {"h_r": 1}}',
    "not a number of an epoch": with_(epoch=-1.0),
    "nested deeply": b"[" * 200_000,
    "nested deeply within": b'{"values": ' + b'{"a":' * 100_000,
    "a huge integer": b'{"trial": 0, "step": ' + b"9" * 4_000 + b', "epoch": 0, "time": 1, "values": {"h_r": 1}}',
    "a huger integer": b'{"trial": 0, "step": ' + b"9" * 400_000 + b', "epoch": 0, "time": 1, "values": {"h_r": 1}}',
    "a huge value": b'{"trial": 0, "step": 1, "epoch": 0, "time": 1, "values": {"h_r": ' + b"9" * 4_000 + b"}}",
    "a step beyond every database": with_(step=2**63),
    "a trial below all": with_(trial=-1),
    "NUL bytes": b"\0" * 1_000,
    "a NUL in a name": with_(values={"h\0r": 1.0}),
    "a newline in a name": with_(values={"h_r\n": 1.0}),
    "invalid UTF-8": b'{"trial": 0, "values": {"\xff\xfe": 1}}',
    "half of a surrogate pair": with_(values={"\ud800": 1.0}),
    "no object": b"[1, 2, 3]",
    "values that are none": with_(values=[1]),
    "values that are objects": with_(values={"h_r": {}}),
    "too many metrics": with_(values={f"m{k}": 1.0 for k in range(MAX_METRICS_PER_SERIES + 1)}),
    "a long line": b"a" * 3_000_000,
    "an empty name": with_(values={"": 1.0}),
}


@pytest.fixture
def spool_file(tmp_path: Path) -> Path:
    return tmp_path / "points" / "0000-test.jsonl"


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_costs_itself_only(spool_file: Path, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    spool_file.parent.mkdir()
    spool_file.write_bytes(with_(step=1) + b"\n" + line + b"\n" + with_(step=2) + b"\n")
    reader, steps = SpoolReader(spool_file), []
    while reader.pending:
        points, end = reader.read(5_000)
        steps += [point.step for point in points]
        reader.offset = end
    assert steps == [1, 2]
    assert reader.skipped == 1, "counted once, however often it was read"
    assert "skipped 1 broken lines of" in caplog.text


def test_the_reporter_goes_on_among_hostile_lines(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    for step, line in enumerate(HOSTILE.values()):
        with spool_file.open("ab") as file:
            file.write(line + b"\n")
        spool.append(step, 0.0, {"h_r": 1.0})
    assert reporter.close(30)
    assert [step for step, _ in service.points()] == list(range(len(HOSTILE)))


def test_what_nobody_foresaw_does_not_end_the_reporter(
    service: FakeService, spool_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    with monkeypatch.context() as patch:
        patch.setattr(reporter_module, "deliver", lambda *_, **__: 1 // 0)
        spool.append(0, 0.0, {"h_r": 1.0})
        wait_for(lambda: "delivering points failed" in caplog.text)
    wait_for(service.points)
    assert reporter.close(10)


def test_hostile_lines_are_told_without_filling_the_log(spool_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool_file.parent.mkdir()
    spool_file.write_bytes(b"no point\n" * 12_345)
    reader = SpoolReader(spool_file)
    reader.read(5_000)
    assert reader.skipped == 12_345
    assert len(caplog.records) == 5
    assert "skipped 10000 broken lines" in caplog.text


def test_a_line_of_any_length_is_passed_over_in_little_memory_and_time(service: FakeService, spool_file: Path) -> None:
    spool_file.parent.mkdir()
    size = 64 * 1024 * 1024
    with spool_file.open("wb") as file:
        file.write(with_(step=1) + b"\n")
        file.truncate(size)  # a hole, which reads as NUL bytes
        file.seek(size)
        file.write(b"\n" + with_(step=2) + b"\n")
    tracemalloc.start()
    try:
        before = time.process_time()
        assert replay(spool_file.parent, Connection(service.address), timeout=60)
        took, (_, peak) = time.process_time() - before, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [step for step, _ in service.points()] == [1, 2]
    assert peak < 20 * 1024 * 1024
    assert took < size / (64 * 1024) * 0.05, "50 ms for 64 KiB"


def test_points_of_many_metrics_cost_what_they_hold() -> None:
    """Columns of everything that any point has would grow with the square of the points."""
    points = [Point(0, step, 0.0, 1.0, {f"m{step}": 1.0}) for step in range(MAX_METRICS_PER_SERIES * 20)]
    report = to_report(points)
    assert sum(series.point_count for series in report.series) == len(points)
    cells = sum(len(series.steps) * len(series.values) for series in report.series)
    assert cells <= len(points) * MAX_METRICS_PER_SERIES


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_file_is_no_spool(tmp_path: Path, service: FakeService, kind: str) -> None:
    folder = tmp_path / "points"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(with_(step=7) + b"\n")
    for name in ("0000-a.jsonl", "0001-a.ack"):
        if kind == "fifo":
            os.mkfifo(folder / name)
        elif kind == "link":
            (folder / name).symlink_to(tmp_path / "secret")
        else:
            (folder / name).mkdir()
    (folder / "0001-a.jsonl").write_bytes(with_(step=1) + b"\n")
    delivered = threading.Thread(
        target=replay, args=(folder, Connection(service.address)), kwargs={"timeout": 60, "limit": 60}, daemon=True
    )
    delivered.start()
    wait_for(service.points)
    assert [step for step, _ in service.points()] == [1]
    delivered.join(60)
    assert not delivered.is_alive()


@pytest.mark.parametrize("offset", [b"-5", b"9" * 10_000, b"\xff", b"", b"1.5"])
def test_a_hostile_offset_is_none_or_at_the_end(spool_file: Path, offset: bytes) -> None:
    spool_file.parent.mkdir()
    spool_file.write_bytes(with_(step=1) + b"\n")
    spool_file.with_suffix(".ack").write_bytes(offset)
    assert [point.step for point in SpoolReader(spool_file).read(10)[0]] in ([1], [])


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_make_a_reader_raise_or_stand_still(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    file = tmp_path_factory.mktemp("spool") / "0000-a.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    reader = SpoolReader(file)
    for _ in range(100):
        points, end = reader.read(5_000)
        to_report(points)
        if end == reader.offset:
            break
        reader.offset = end
    assert reader.offset == file.stat().st_size


def test_own_lines_are_all_points(spool_file: Path) -> None:
    spool = Spool(spool_file, trial=3)
    for step in range(50):
        spool.append(step, step / 7, {"h_r": float("nan"), "loss": float("inf"), "knn_top1": 0.5})
    reader = SpoolReader(spool_file)
    assert len(reader.read(10_000)[0]) == 50
    assert reader.skipped == 0
