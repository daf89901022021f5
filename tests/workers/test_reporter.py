"""The reporter delivers every point once acknowledged, in order, whatever the service and the process go through."""

import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from worker_harness import TOKEN, FakeService, wait_for

from adadim_core.spec.report import Report
from workers.reporting.connection import Connection, Superseded, Unavailable
from workers.reporting.reporter import BATCH_SECONDS, PointReporter, replay
from workers.storage import spool as spool_module
from workers.storage.spool import Spool, SpoolReader


@pytest.fixture
def spool_file(tmp_path: Path) -> Path:
    return tmp_path / "points" / "0000-test.jsonl"


def append(spool: Spool, steps: range) -> None:
    for step in steps:
        spool.append(step, step / 10, {"h_r": step / 2})


def test_points_arrive_in_order_and_once(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=3)
    append(spool, range(200))
    assert reporter.close(10)
    assert service.points(trial=3) == [(step, step / 2) for step in range(200)]
    assert service.tokens == {f"Bearer {TOKEN}"}
    assert not SpoolReader(spool_file).pending


def test_the_first_point_does_not_wait_for_a_batch(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    took = []
    for step in range(20):  # the quickest counts: either thread may be held up
        time.sleep(2 * BATCH_SECONDS)  # after which nothing is under way
        began = time.monotonic()
        append(spool, range(step, step + 1))
        wait_for(lambda step=step: len(service.points()) > step, seconds=30)
        took.append(time.monotonic() - began)
        if took[-1] < 0.25:
            break
    assert min(took) < 0.25
    reporter.close(1)


def test_many_points_go_in_few_reports(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool, began = reporter.open(spool_file, trial=0), time.monotonic()
    append(spool, range(2_000))
    took = time.monotonic() - began
    assert reporter.close(10)
    assert len(service.points()) == 2_000
    assert len(service.accepted) <= 5 + took / BATCH_SECONDS


def test_nothing_is_lost_while_the_service_is_away(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    append(spool, range(10))
    wait_for(lambda: len(service.points()) == 10)
    service.stop()
    append(spool, range(10, 500))
    service.start()
    append(spool, range(500, 600))
    assert reporter.close(20)
    assert service.points() == [(step, step / 2) for step in range(600)]


def test_errors_of_the_service_are_retried(service: FakeService, spool_file: Path) -> None:
    answers = iter([(500, {}, b""), (429, {"Retry-After": "0"}, b""), (200, {}, b"<html>a proxy</html>")])
    service.answer = lambda report, size: next(answers, None)
    reporter = PointReporter(service.address)
    append(reporter.open(spool_file, trial=0), range(5))
    wait_for(lambda: len(service.points()) == 5)
    assert service.refused == 3
    reporter.close(1)


def test_a_killed_process_leaves_its_points_to_the_next(service: FakeService, spool_file: Path) -> None:
    """SIGKILL while it writes and delivers: what it appended arrives, in order, without gaps."""
    script = """
import sys
from workers.reporting.reporter import PointReporter
from workers.reporting.connection import ServiceAddress
from pathlib import Path
url, path = sys.argv[1:]
spool = PointReporter(ServiceAddress(url, "a1", "secret-attempt-token")).open(Path(path), trial=0)
for step in range(10**9):
    spool.append(step, step / 10, {"h_r": step / 2})
"""
    command = [sys.executable, "-c", script, service.address.url, str(spool_file)]
    with subprocess.Popen(command) as process:
        wait_for(lambda: len(service.points()) > 100, what="first points of the process")
        process.send_signal(signal.SIGKILL)
    with spool_file.open("ab") as file:
        file.write(b'{"trial":0,"step":9')  # and it was killed within a line

    written = len(spool_file.read_bytes().splitlines()) - 1
    assert replay(spool_file.parent, Connection(service.address), timeout=60)
    steps = [step for step, _ in service.points()]
    assert list(dict.fromkeys(steps)) == list(range(written)), "a batch in flight may repeat; order stays"

    reporter = PointReporter(service.address)  # the trial goes on in a new process, in the same spool
    append(reporter.open(spool_file, trial=0), range(written, written + 5))
    assert reporter.close(10)
    assert sorted({step for step, _ in service.points()}) == list(range(written + 5))


def test_what_was_acknowledged_is_not_sent_again(service: FakeService, spool_file: Path) -> None:
    for part in (range(10), range(10, 20)):
        reporter = PointReporter(service.address)
        append(reporter.open(spool_file, trial=0), part)
        assert reporter.close(10)
    assert [step for step, _ in service.points()] == list(range(20))


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410])
def test_a_superseded_attempt_stops_sending_and_keeps_its_points(
    service: FakeService, spool_file: Path, status: int
) -> None:
    service.answer = lambda report, size: (status, {}, b"{}")
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    append(spool, range(5))
    wait_for(lambda: service.refused == 1)
    append(spool, range(5, 10))
    assert not reporter.close(1)
    assert service.refused == 1
    assert len(SpoolReader(spool_file).read(1_000)[0]) == 10
    with pytest.raises(Superseded):
        replay(spool_file.parent, Connection(service.address), timeout=60)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 409, 413, 422, 431, 502])
def test_what_a_proxy_answers_on_its_own_account_ends_and_loses_nothing(
    service: FakeService, spool_file: Path, status: int
) -> None:
    service.answer = lambda report, size: (status, {"Content-Type": "text/html"}, b"<h1>gateway</h1>")
    reporter = PointReporter(service.address)
    append(reporter.open(spool_file, trial=0), range(5))
    wait_for(lambda: service.refused >= 1)
    service.answer = lambda report, size: None
    assert reporter.close(10)
    assert [step for step, _ in service.points()] == list(range(5))


def test_reports_too_large_are_split(service: FakeService, spool_file: Path) -> None:
    service.answer = lambda report, size: (413, {}, b"") if size > 2_000 else None
    reporter = PointReporter(service.address)
    append(reporter.open(spool_file, trial=0), range(300))
    assert reporter.close(20)
    assert service.refused
    assert service.points() == [(step, step / 2) for step in range(300)]


def test_a_point_the_service_refuses_holds_up_no_other(
    service: FakeService, spool_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_step_7(report: dict[str, Any], size: int) -> Any:
        bad = any(7 in series["steps"] for series in report["series"])
        return (422, {}, b"step 7 is a bug") if bad else None

    service.answer = refuse_step_7
    reporter = PointReporter(service.address)
    append(reporter.open(spool_file, trial=0), range(20))
    assert reporter.close(20)
    assert [step for step, _ in service.points()] == [step for step in range(20) if step != 7]
    assert "step 7 is a bug" in caplog.text
    assert TOKEN not in caplog.text
    assert b'"step":7,' in spool_file.read_bytes()


def test_numbers_that_are_not_finite_arrive(service: FakeService, spool_file: Path) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    spool.append(0, 0.0, {"h_r": math.nan, "loss": math.inf})
    spool.append(1, 0.1, {"loss": -math.inf})
    assert reporter.close(10)
    assert service.points(metric="h_r") == [(0, "NaN")]
    assert service.points(metric="loss") == [(0, "Infinity"), (1, "-Infinity")]
    for report in service.accepted:
        Report.model_validate(report)


def test_training_does_not_wait_for_a_service_that_hangs(service: FakeService, spool_file: Path) -> None:
    release = threading.Event()
    service.answer = lambda report, size: release.wait(60) and None
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    took = []
    for step in range(5_000):
        began = time.perf_counter()
        append(spool, range(step, step + 1))
        took.append(time.perf_counter() - began)
    assert sorted(took)[-20] < 0.2, "but for moments in which this machine is held up"
    assert max(took) < 8, "a request that hangs is given up after 10 s"
    assert not service.points()
    release.set()
    assert reporter.close(20)
    assert len(set(service.points())) == 5_000


def test_memory_stays_bounded_while_the_service_is_away(service: FakeService, spool_file: Path) -> None:
    service.stop()
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    append(spool, range(5_000))
    before = psutil.Process().memory_info().rss
    append(spool, range(5_000, 55_000))  # as values in memory they would take thrice what is allowed
    assert spool_file.stat().st_size > 3_000_000
    assert psutil.Process().memory_info().rss - before < 8_000_000
    reporter.close(0)


def test_points_are_kept_without_a_service(spool_file: Path) -> None:
    reporter = PointReporter(None)
    append(reporter.open(spool_file, trial=0), range(10))
    assert not reporter.close(1)
    assert len(SpoolReader(spool_file).read(1_000)[0]) == 10


def test_a_full_disk_does_not_end_the_training(
    spool_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    spool = Spool(spool_file, trial=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        append(spool, range(3))
    assert caplog.text.count("cannot write metric points") == 1
    append(spool, range(3, 4))
    assert [point.step for point in SpoolReader(spool_file).read(10)[0]] == [3]


def test_a_batch_that_just_did_not_hold_the_next_point_is_followed_at_once(
    service: FakeService, spool_file: Path
) -> None:
    """17 values a point do not divide the size of a batch: it ends with some room left, and more waiting."""
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    for step in range(2_000):
        spool.append(step, step / 10, {f"m_{k}": 1.0 for k in range(17)})
    assert reporter.close(20)


def test_spools_that_nobody_delivers_are_not_looked_at(spool_file: Path) -> None:
    reporter = PointReporter(None)
    for number in range(5):
        append(reporter.open(spool_file.with_name(f"{number:04d}-test.jsonl"), trial=number), range(3))
    assert len(reporter._readers) == 1


class Taking:
    """A connection to a service that takes everything, in its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.values = 0
        self._seconds = seconds

    def post(self, report: Report, *, timeout: float | None = None) -> None:
        time.sleep(self._seconds)
        self.values += sum(series.point_count for series in report.series)


def fill(folder: Path, spools: int, steps: int) -> int:
    """Spools as killed processes leave them. Returns their size."""
    for number in range(spools):
        spool = Spool(folder / f"{number:04d}-test.jsonl", trial=number)
        for step in range(steps):
            spool.append(step, step / 10, {f"m_{k}": step + 0.1234567 for k in range(17)})
        spool.close()
    return sum(file.stat().st_size for file in folder.iterdir())


def test_what_many_processes_left_is_read_about_once(tmp_path: Path) -> None:
    size, connection = fill(tmp_path, spools=30, steps=150), Taking()
    before = psutil.Process().io_counters().read_chars
    assert replay(tmp_path, connection, timeout=60)  # type: ignore[arg-type]
    assert psutil.Process().io_counters().read_chars - before < 2 * size
    assert connection.values == 30 * 150 * 17


@pytest.mark.slow
def test_a_service_that_takes_points_is_given_the_time_it_needs(tmp_path: Path) -> None:
    fill(tmp_path, spools=3, steps=2_000)
    assert not replay(tmp_path, Taking(0.1), timeout=60, limit=0.3)  # type: ignore[arg-type]
    assert replay(tmp_path, Taking(0.2), timeout=2)  # type: ignore[arg-type]


def stale(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Reading this file fails, as on a network file system that is away."""
    real = spool_module.open_regular

    def open_(folder: Path, key: str) -> Any:
        if key == name:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(folder, key)

    monkeypatch.setattr(spool_module, "open_regular", open_)


def test_a_spool_that_cannot_be_read_for_a_while_is_read_again(
    service: FakeService, spool_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = PointReporter(service.address)
    spool = reporter.open(spool_file, trial=0)
    append(spool, range(1))
    wait_for(service.points)
    with monkeypatch.context() as patch:
        stale(patch, spool_file.name)
        append(spool, range(1, 3))
        append(reporter.open(spool_file.with_name("0001-test.jsonl"), trial=1), range(1))
        wait_for(lambda: service.points(trial=1), what="what the others hold")
        wait_for(lambda: "Stale file handle" in caplog.text)
    append(spool, range(3, 4))
    assert reporter.close(10)
    assert [step for step, _ in service.points()] == list(range(4))


def test_a_left_spool_that_cannot_be_read_holds_up_no_other(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, spools=2, steps=10)
    stale(monkeypatch, "0000-test.jsonl")
    others = {"trial": 1, "metric": "m_0"}
    wait_for(lambda: not replay(tmp_path, Connection(service.address), timeout=2) and service.points(**others))
    assert {step for step, _ in service.points(**others)} == set(range(10))


def test_a_process_without_a_free_descriptor_tries_again(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    connection = Connection(service.address)
    with monkeypatch.context() as patch:
        patch.setattr("httpx.Client.post", full)
        with pytest.raises(Unavailable, match="Too many open files"):
            connection.post(Report())
    assert connection.post(Report()).directive == "continue"


def test_a_short_write_loses_one_point_only(spool_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a torn line a newline goes before the next; the line may lack just its own."""
    spool_file.parent.mkdir()
    spool_file.write_bytes(b'{"trial":0,"st')
    spool, write = Spool(spool_file, trial=0), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:-1]))
        append(spool, range(1))
    append(spool, range(1, 3))
    assert [point.step for point in SpoolReader(spool_file).read(10)[0]] == [0, 1, 2]
