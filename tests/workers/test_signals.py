"""Signals to the driver outside its training: `python -m workers` ends soon, and says how, whenever they come."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from worker_harness import FakeService, tiny_spec, wait_for

import workers.__main__
from workers.reporting.attempt import Attempt

# A run that has its outcome when it is told to, and would wait for the service for longer than the test does.
SCRIPT = """
import sys
import workers.__main__
from adadim_core.spec.report import Outcome

def run(*_):
    print("running", flush=True)
    sys.stdin.readline()
    return Outcome(state="succeeded")

def deliver(*arguments, real=workers.__main__._deliver):
    print("delivering", flush=True)
    real(*arguments)

workers.__main__.run_experiment = run
workers.__main__._deliver = deliver
workers.__main__._OUTCOME_SECONDS = 600.0
sys.exit(workers.__main__.main(sys.argv[1:]))
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "spec.json").write_text(json.dumps(tiny_spec()))
    return [str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Ray that kills after 3 s."""
    monkeypatch.setattr("workers.__main__._INTERRUPTED_SECONDS", 30.0)


@pytest.mark.parametrize(
    ("service_is", "number"),
    [
        ("away", signal.SIGTERM),
        ("hanging", signal.SIGINT),
        pytest.param("away", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("hanging", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_the_outcome_waits_for_the_service(
    service: FakeService, arguments: list[str], number: signal.Signals, service_is: str
) -> None:
    release = threading.Event()
    if service_is == "hanging":
        service.answer = lambda report, size: release.wait(60) and None
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | service.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        if service_is == "away":
            service.stop()
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"delivering\n"  # before that a signal makes another outcome
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(number)
        process.send_signal(number)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            release.set()


def test_a_signal_before_the_run_begins(
    service: FakeService, arguments: list[str], patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the driver sets itself up, which takes some tenths of a second."""
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)

    class Told(Attempt):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(workers.__main__, "Attempt", Told)
    assert workers.__main__.main(arguments) == 143
    assert service.outcomes() == [{"state": "interrupted", "error": "received SIGTERM"}]


def test_a_signal_while_an_outcome_is_made(
    service: FakeService, arguments: list[str], patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has failed; the signal comes between its end and the telling of it."""
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)

    def run(*_: Any) -> Any:
        raise ValueError("a bug")

    def broken_off(error: Exception, interruption: Any, real: Any = workers.__main__._broken_off) -> Any:
        outcome = real(error, interruption)
        signal.raise_signal(signal.SIGINT)
        return outcome

    monkeypatch.setattr(workers.__main__, "run_experiment", run)
    monkeypatch.setattr(workers.__main__, "_broken_off", broken_off)
    assert workers.__main__.main(arguments) == 1
    wait_for(service.outcomes)
    assert service.outcomes() == [{"state": "failed", "error": "ValueError: a bug"}]
