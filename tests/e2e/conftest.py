"""A real service as a child process: embedded PostgreSQL, local Ray, HTTP. Nothing is simulated here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from adadim.client import Client, ClientError

T = TypeVar("T")

SWEEP = """
name: e2e-sweep
model: {backbone: conv_small, width: 4, projector: {layers: 2, hidden: 32, out: 32}}
training: {epochs: %d, warmup_epochs: 1, optimizer: adamw, lr: 1e-3, log_every_steps: 2}
search:
  algorithm: grid
  space:
    objective.weighting:
      choice:
        - {policy: fixed, alpha: 0.0}
        - {policy: fixed, alpha: 0.5}
        - {policy: fixed, alpha: 1.0}
        - {policy: adaptive}
"""


def sweep(epochs: int) -> str:
    """A four-trial sweep on digits."""
    return SWEEP % epochs


def wait_for(condition: Callable[[], T], *, timeout_s: float, what: str) -> T:
    """Poll until the condition gives something true; fails with `what` when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(ClientError):
            if found := condition():
                return found
        time.sleep(0.1)  # between two looks at another process
    raise AssertionError(f"not within {timeout_s} s: {what}")


class ServiceProcess:
    """`adadim serve` with a state directory of its own; more of its environment by name."""

    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self._environment = environment
        self._log = state_dir / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    def start(self) -> Client:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.cli.main", "serve"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return wait_for(self._connect, timeout_s=300, what="service ready")

    @property
    def environment(self) -> dict[str, str]:
        hidden = ("DATABASE_URL", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        own = {"ADADIM_STATE_DIR": str(self.state_dir), "ADADIM_PORT": "0", "ADADIM_RAY_NUM_CPUS": "2"}
        return kept | own | self._environment

    @property
    def token(self) -> str:
        return (self.state_dir / "token").read_text().strip()

    def _connect(self) -> Client | None:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        with suppress(OSError, ValueError):
            record = json.loads((self.state_dir / "service.json").read_text())
            if record["pid"] == self._process.pid:
                client = Client(record["url"], self.token)
                if client.is_ready():
                    return client
        return None

    def stop(self, signum: int = signal.SIGTERM, timeout_s: float = 180) -> int:
        """End the service with a signal; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signum)
        return self._process.wait(timeout_s)

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to this service: itself, PostgreSQL, Ray, jobs, trial actors."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # gone, or a zombie nobody has waited for yet
                # Ray's agents overwrite their environment; the session they were started in tells them.
                session = os.getsid(process.pid)
                ours = process.environ().get("ADADIM_STATE_DIR") == str(self.state_dir)
                if ours or session in self._sessions or str(self.state_dir) in " ".join(process.cmdline()):
                    found.append(process)
                    self._sessions |= {session} - {os.getsid(0)}
        return [process for process in found if process.pid != os.getpid()]

    def drivers(self) -> list[psutil.Process]:
        """The driver of every Ray job that runs."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if "env:ADADIM_SPEC" in process.cmdline():
                    found.append(process)
        return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service for the tests that do not stop it."""
    yield from run_service(tmp_path_factory)


@pytest.fixture
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service for one test, which may kill it."""
    yield from run_service(tmp_path_factory)


def run_service(tmp_path_factory: pytest.TempPathFactory, **environment: str) -> Iterator[ServiceProcess]:
    """A service that runs until the generator ends, and nothing left of it then."""
    process = ServiceProcess(tmp_path_factory.mktemp("state"), **environment)
    process.start()
    try:
        yield process
    finally:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            process.stop()
        for left in process.processes():
            with suppress(psutil.Error):
                left.kill()


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Client:
    """A client of the shared service."""
    found = service._connect()
    assert found is not None
    return found


def series(client: Client, experiment_id: int, metric: str) -> dict[int, dict[str, Any]]:
    """One metric of every trial, by trial number."""
    answer = client.metrics(experiment_id, [metric], max_points=10_000)
    return {part["trial"]: part for part in answer["series"]}
