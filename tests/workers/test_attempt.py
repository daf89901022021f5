"""The driver's reports: states, heartbeat, outcome, and the orders that come back."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_harness import CODE, FakeService, wait_for

from adadim_core.spec.attempt_proof import proof, token_digest
from adadim_core.spec.report import Outcome, Report
from workers.__main__ import MAY_NOT_REPORT, main
from workers.errors import RunError
from workers.interruption import Interrupted, Interruption
from workers.reporting.attempt import Attempt
from workers.reporting.claim import Claim, cluster_key
from workers.reporting.connection import (
    Connection,
    NotTaken,
    ServiceAddress,
    Unavailable,
    with_own_token,
)
from workers.storage.spool import Spool

SUCCEEDED = Outcome(state="succeeded")


class Stops(list[str]):
    """Collects the reasons an attempt was asked to stop for."""

    def request(self, reason: str, *, at_once: bool = False) -> None:
        self.append(f"{reason} (at once)" if at_once else reason)


@pytest.fixture
def stops() -> Stops:
    return Stops()


@pytest.fixture
def rare_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives was not brought by one."""
    monkeypatch.setattr("workers.reporting.attempt.HEARTBEAT_SECONDS", 3600.0)


@pytest.fixture
def attempt(service: FakeService, stops: Stops) -> Iterator[Attempt]:
    attempt = Attempt(service.address, on_stop=stops.request)
    attempt.start()
    yield attempt
    attempt.finish(SUCCEEDED, None, timeout=0.1)


def test_a_heartbeat_comes_without_news(service: FakeService, attempt: Attempt) -> None:
    wait_for(lambda: len(service.accepted) >= 2, seconds=30)
    assert service.accepted[1] == {"trials": [], "series": [], "outcome": None, "waiting": None, "data": {}}


def test_a_state_is_told_at_once_and_not_repeated(
    service: FakeService, rare_heartbeats: None, attempt: Attempt
) -> None:
    wait_for(lambda: service.accepted)
    attempt.update(0, "running", epochs=5)
    wait_for(lambda: service.states(0) == ["running"], seconds=30)
    attempt.update(0, "succeeded", epoch=5)
    attempt.finish(SUCCEEDED, None, timeout=60)
    assert service.states(0) == ["running", "succeeded"]
    assert service.accepted[-1]["outcome"]["state"] == "succeeded"


def test_points_left_behind_go_before_the_outcome(service: FakeService, attempt: Attempt, tmp_path: Path) -> None:
    Spool(tmp_path / "0000-dead.jsonl", trial=0).append(1, 0.1, {"h_r": 1.5})
    assert attempt.finish(SUCCEEDED, tmp_path, timeout=60)
    assert service.points() == [(1, 1.5)]
    assert service.accepted[-1]["outcome"]
    assert not service.accepted[-1]["series"]


def test_the_outcome_waits_for_the_service_to_come_back(service: FakeService, attempt: Attempt) -> None:
    wait_for(lambda: service.accepted)
    service.stop()
    threading.Timer(1.0, service.start).start()
    attempt.update(0, "succeeded")
    assert attempt.finish(SUCCEEDED, None, timeout=30)
    assert service.outcomes()[-1]["state"] == "succeeded"
    assert service.states(0)[-1] == "succeeded"


def test_a_service_that_stays_away_is_given_up(service: FakeService, attempt: Attempt) -> None:
    wait_for(lambda: service.accepted)
    service.stop()
    began = time.monotonic()
    assert not attempt.finish(SUCCEEDED, None, timeout=1)
    assert time.monotonic() - began < 8


def test_the_directive_stop_is_obeyed(service: FakeService, attempt: Attempt, stops: Stops) -> None:
    service.directive = "stop"
    wait_for(lambda: stops, seconds=30)
    assert attempt.finish(Outcome(state="interrupted"), None, timeout=60)
    assert service.outcomes() == [{"state": "interrupted", "error": None}]


def test_a_superseded_attempt_stops_and_says_no_more(service: FakeService, attempt: Attempt, stops: Stops) -> None:
    service.answer = lambda report, size: (409, {}, b"{}")
    wait_for(lambda: stops, seconds=30)
    assert stops[0].endswith("(at once)"), "another attempt may own the checkpoints by now"
    refused = service.refused
    assert not attempt.finish(Outcome(state="interrupted"), None, timeout=60)
    assert service.refused == refused


def test_long_errors_keep_both_ends(service: FakeService, attempt: Attempt) -> None:
    attempt.update(0, "failed", error="first" + "x" * 100_000 + "last")
    attempt.finish(SUCCEEDED, None, timeout=60)
    errors: list[Any] = [trial["error"] for report in service.accepted for trial in report["trials"]]
    assert errors[-1].startswith("first")
    assert errors[-1].endswith("last")
    assert len(errors[-1]) <= 20_000


def test_without_a_service_there_is_nothing_to_deliver() -> None:
    attempt = Attempt(None, on_stop=Interruption().request)
    attempt.start()
    attempt.update(0, "running")
    assert attempt.finish(SUCCEEDED, None, timeout=1)


@pytest.mark.parametrize("attempt", ["", "../../../etc", "a/b", "7?x=1", "x" * 101])
def test_an_attempt_s_name_is_fit_for_paths(attempt: str) -> None:
    with pytest.raises(RunError, match="is no attempt of a service"):
        ServiceAddress("http://s", attempt, "hidden")


@pytest.mark.parametrize("url", ["http://[::1", "localhost:8080", "", "ftp://s", "http://"])
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(RunError, match="is no address of a service"):
        ServiceAddress(url, "a1", "hidden")


def test_a_token_does_not_show() -> None:
    claim = Claim.of("a1", "hidden", "hidden-too")
    assert "hidden" not in repr(ServiceAddress("http://s", "a1", "hidden", claim))


@pytest.fixture
def driver(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ServiceAddress]:
    """Makes the address a job's driver has, on a node with the cluster's token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-cluster")
    service.token_sha256 = None
    return lambda: with_own_token(service.address.url, "a1", CODE)


@pytest.mark.parametrize("claiming", ["taken", "lost", "away"])
def test_a_driver_takes_its_attempt_over_and_whatever_becomes_of_that_reports_arrive(
    service: FakeService, driver: Callable[[], ServiceAddress], claiming: str
) -> None:
    service.claiming = claiming
    address = driver()
    service.claiming = "taken"
    for _ in range(2):  # its own, and those of trials
        connection = Connection(address)
        assert connection.post(Report()).directive == "continue"
        assert connection.post(Report()).directive == "continue"
        connection.close()
    (used,) = service.tokens
    assert token_digest(used.removeprefix("Bearer ")) == service.token_sha256
    assert CODE not in used
    assert len({json.dumps(claim) for claim in service.claims}) == 1, "the same however often it is asked"
    told = service.claims[0]
    assert told["proof"] == proof("of-the-cluster", "a1", CODE, told["sha256"])
    assert len(service.claims) == (1 if claiming == "taken" else 3)


def test_a_service_that_is_away_delays_no_start(service: FakeService, driver: Callable[[], ServiceAddress]) -> None:
    service.stop()
    began = time.monotonic()
    address = driver()
    assert time.monotonic() - began < 8
    connection = Connection(address)
    with pytest.raises(Unavailable):
        connection.post(Report())
    service.start()
    assert connection.post(Report()).directive == "continue"
    connection.close()


def test_a_driver_that_the_service_does_not_take_ends_and_says_why(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service.claiming = "refused"
    for name, value in (service.environment() | {"S": "{name: x}"}).items():
        monkeypatch.setenv(name, value)
    assert main(["env:S"]) == MAY_NOT_REPORT
    assert "failed: HTTP 403: the service says why" in capsys.readouterr().err
    assert service.accepted == []


def test_a_second_process_with_the_code_of_the_job_is_turned_away(
    service: FakeService, driver: Callable[[], ServiceAddress]
) -> None:
    """As one that read it in the cluster's API, or a driver that was started again by somebody."""
    first = driver()
    service.claiming = "late"
    with pytest.raises(NotTaken, match="HTTP 409"):
        driver()
    connection = Connection(first)
    assert connection.post(Report()).directive == "continue"
    connection.close()


def test_the_cluster_s_token_is_found_where_ray_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADADIM_JOB_KEY", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster_key() is None
    assert Claim.of("a1", CODE, "t").proof is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-the-user\n")
    assert cluster_key() == "of-the-user"
    (tmp_path / "token").write_text("of-the-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert cluster_key() == "of-the-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-environment")
    assert cluster_key() == "of-the-environment"
    monkeypatch.setenv("ADADIM_JOB_KEY", "of-the-lab")
    assert cluster_key() == "of-the-lab"


def test_an_order_from_another_thread_interrupts_the_main_thread() -> None:
    interruption = Interruption()
    interruption.install()
    threading.Timer(0.1, interruption.request, ["the service asked"]).start()
    with pytest.raises(Interrupted), interruption.raising():
        threading.Event().wait(10)
    assert interruption.reason == "the service asked"
    interruption.disarm()
    signal.raise_signal(signal.SIGTERM)  # the run is ending already


def test_many_long_errors_go_in_several_reports(service: FakeService, attempt: Attempt) -> None:
    """The service takes 8 MiB a report."""
    largest = 0

    def measure(report: dict[str, Any], size: int) -> None:
        nonlocal largest
        largest = max(largest, size)

    service.answer = measure
    for number in range(1_000):
        attempt.update(number, "failed", error="é" * 20_000)
    assert attempt.finish(SUCCEEDED, None, timeout=60)
    assert 1_000_000 < largest < 8 * 1024 * 1024
    assert {trial["number"] for report in service.accepted for trial in report["trials"]} == set(range(1_000))


def test_facts_that_no_service_takes_cost_neither_heartbeat_nor_outcome(
    service: FakeService, attempt: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a data set with a file whose name is no UTF-8."""
    attempt.tell_data("aa", {"skipped": ["caf\udce9.png"]})
    attempt.tell_data("bb", {"classes": ["한국", "🐈"]})
    wait_for(lambda: [report["data"] for report in service.accepted if report["data"]], seconds=30)
    attempt.update(0, "succeeded")
    assert attempt.finish(SUCCEEDED, None, timeout=30)
    assert [report["data"] for report in service.accepted if report["data"]] == [{"bb": {"classes": ["한국", "🐈"]}}]
    assert "half of a surrogate pair" in caplog.text


def test_a_report_that_cannot_be_put_together_leaves_the_outcome(service: FakeService, attempt: Attempt) -> None:
    """Whatever is wrong with its facts."""
    wait_for(lambda: service.accepted)
    with attempt._lock:
        attempt._data["no name"] = {}
    attempt.update(0, "running")
    wait_for(lambda: service.states(0) == ["running"], seconds=30)
    with attempt._lock:
        attempt._data["no name"] = {}
    assert attempt.finish(SUCCEEDED, None, timeout=30)
    assert service.outcomes() == [{"state": "succeeded", "error": None}]


def test_facts_about_many_data_sets_go_in_several_reports(service: FakeService, attempt: Attempt) -> None:
    service.answer = lambda report, size: (503, {}, b"{}")
    for number in range(40):
        attempt.tell_data(f"{number:x}", {"lines": ["x"]})
    attempt.wait_for("w" * 2_000)
    service.answer = lambda report, size: None
    assert attempt.finish(SUCCEEDED, None, timeout=30)
    assert {name for report in service.accepted for name in report["data"]} == {f"{n:x}" for n in range(40)}
