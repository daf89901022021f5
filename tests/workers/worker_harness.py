"""What the worker tests share: a service that can misbehave, a Ray head, and `python -m workers` as a process."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from adadim_core.spec import report_binary
from adadim_core.spec.report import encode_float
from service.cluster.ports import free_ports
from workers.reporting.connection import ServiceAddress
from workers.storage.spool import SpoolReader

TOKEN = "secret-attempt-token"
CODE = "code-the-job-was-started-with"

Answer = tuple[int, dict[str, str], bytes]


def wait_for(condition: Callable[[], Any], *, seconds: float = 60.0, what: str = "") -> Any:
    """Wait until the condition holds and return its value; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)
    return value


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def decoded(content_type: str, body: bytes) -> dict[str, Any]:
    """A report of either form as its JSON has it."""
    if content_type != report_binary.MEDIA_TYPE:
        found: dict[str, Any] = json.loads(body)
        return found
    head, rest = report_binary.split(body)
    series = []
    for one in head.series:
        columns = []
        for kind in "qdd" + "d" * len(one.metrics):
            columns.append(array(kind, rest[: 8 * one.steps].tobytes()).tolist())
            rest = rest[8 * one.steps :]
        steps, epochs, times, *values = columns
        named = {
            name: [encode_float(value) for value in column] for name, column in zip(one.metrics, values, strict=True)
        }
        series.append({"trial": one.trial, "steps": steps, "epochs": epochs, "times": times, "values": named})
    return head.model_dump(mode="json") | {"series": series}


class FakeService:
    """The reporting end point of the service, recording what it accepts. `answer` decides what it says."""

    def __init__(self) -> None:
        self.accepted: list[dict[str, Any]] = []
        self.refused = 0
        self.tokens: set[str] = set()
        self.token_sha256: str | None = _sha256(TOKEN)
        """Of the token that reports must carry; None: of none before a driver says which."""
        self.claims: list[dict[str, Any]] = []
        self.claiming = "taken"
        """What becomes of a driver's claim: taken, lost (taken, unanswered), away (503), refused (403), late (409)."""
        self.directive = "continue"
        self.answer: Callable[[dict[str, Any], int], Answer | None] = lambda report, size: None
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def address(self) -> ServiceAddress:
        return ServiceAddress(url=f"http://127.0.0.1:{self._port}", attempt="a1", token=TOKEN)

    def environment(self) -> dict[str, str]:
        return {
            "ADADIM_SERVICE_URL": self.address.url,
            "ADADIM_ATTEMPT_ID": "a1",
            "ADADIM_ATTEMPT_CODE": CODE,
        }

    def points(self, trial: int = 0, metric: str = "h_r") -> list[tuple[int, Any]]:
        """(step, value) in the order of arrival."""
        return [
            (step, value)
            for report in list(self.accepted)
            for series in report["series"]
            if series["trial"] == trial
            for step, value in zip(series["steps"], series["values"].get(metric, []), strict=False)
            if value is not None
        ]

    def states(self, trial: int) -> list[str]:
        return [t["state"] for report in list(self.accepted) for t in report["trials"] if t["number"] == trial]

    def outcomes(self) -> list[dict[str, Any]]:
        return [report["outcome"] for report in list(self.accepted) if report["outcome"]]

    def opens(self, authorization: str) -> bool:
        return _sha256(authorization.removeprefix("Bearer ")) == self.token_sha256

    def claim(self, authorization: str, claim: dict[str, Any]) -> int | None:
        """The status to answer with; None for no answer."""
        assert authorization == f"Bearer {CODE}"
        self.claims.append(claim)
        if self.claiming in ("taken", "lost"):
            self.token_sha256 = claim["sha256"]
        return {"taken": 204, "away": 503, "refused": 403, "late": 409, "lost": None}[self.claiming]

    def start(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.server is not service._server:  # stopped: the connection breaks, as that of a dead process
                    self.close_connection = True
                    return
                assert self.path == "/api/v1/attempts/a1/reports"
                if not service.opens(self.headers["Authorization"]):
                    self._say(401, b"{}")
                    return
                report = decoded(self.headers["Content-Type"], body)
                service.tokens.add(self.headers["Authorization"])
                answer = service.answer(report, len(body))
                if answer is None:
                    service.accepted.append(report)
                    answer = 200, {}, json.dumps({"directive": service.directive}).encode()
                else:
                    service.refused += 1
                status, headers, content = answer
                self.send_response(status)
                kind = "application/json" if status < 400 else "application/problem+json"
                for name, value in ({"Content-Type": kind, "Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/api/v1/attempts/a1/token"
                if status := service.claim(self.headers["Authorization"], body):
                    self._say(status, b"" if status == 204 else b'{"detail": "the service says why"}')
                else:
                    self.close_connection = True

            def _say(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/problem+json")
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class RayHead:
    """A local Ray head of 2 CPUs, as `ray start --head` makes it, with token authentication on."""

    def __init__(self) -> None:
        self.port, self.dashboard_port, *ports = free_ports(5)
        self.token = secrets.token_hex(16)
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray puts sockets under it
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"),
            *("--node-ip-address=127.0.0.1", f"--port={self.port}", f"--temp-dir={self._folder}"),
            *(f"--dashboard-port={self.dashboard_port}", f"--dashboard-agent-listen-port={ports[0]}"),
            *(f"--ray-client-server-port={ports[1]}", f"--metrics-export-port={ports[2]}"),
            *("--min-worker-port=0", "--max-worker-port=0"),
        ]
        self._log = Path(self._folder, "head.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            wait_for(self._answers, seconds=120, what=f"Ray head up, see {self._log}")
        except BaseException:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.stop()
            raise

    def environment(self) -> dict[str, str]:
        """For processes that use this cluster: the present environment, Ray's and the service's variables replaced."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "ADADIM_"))}
        # `python` in a job's entrypoint is this interpreter, whether its environment is activated or not.
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # what else runs on this machine may fill it
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
        }

    def add_node(self, **environment: str) -> "RayNode":
        """A second node of 1 CPU, with its own raylet. Its processes have these variables."""
        return RayNode(self, environment)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs of it."""
        return self._process_tree_root().children(recursive=True)

    def kill(self) -> None:
        """The whole cluster is gone at once, as when the power fails."""
        kill_all(self._process_tree_root())
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def jobs_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        processes = [self._process_tree_root(), *self._process_tree_root().children(recursive=True)]
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=4)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _process_tree_root(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.dashboard_port)) == 0 and b"started" in self._log.read_bytes()


class RayNode:
    """Another node of a cluster, on this machine."""

    def __init__(self, head: RayHead, environment: dict[str, str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        ports = free_ports(2)
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", f"--address=127.0.0.1:{head.port}", "--block"),
            *("--num-cpus=1", "--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"),
            *(f"--dashboard-agent-listen-port={ports[0]}", f"--metrics-export-port={ports[1]}"),
        ]
        self._log = Path(self._folder, "node.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=head.environment() | environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: b"started" in self._log.read_bytes(), seconds=90, what=f"node up, see {self._log}")

    def kill(self) -> None:
        """The node is gone at once: raylet, workers and all."""
        if self._process.poll() is None:
            kill_all(psutil.Process(self._process.pid))
        shutil.rmtree(self._folder, ignore_errors=True)


def kill_all(root: psutil.Process) -> None:
    """SIGKILL to a process and all its descendants."""
    processes = [*root.children(recursive=True), root]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


HELD = """
import sys, time
from pathlib import Path

import workers.sweep.tuner
from workers.__main__ import main
from workers.trial.actor import TrialActor

EPOCH, RELEASED = {epoch}, Path({released!r})


class Held(TrialActor):
    def step(self):
        result = super().step()
        if result.get("epoch") == EPOCH and not result["done"]:
            self.save()
            RELEASED.with_suffix(".held-" + str(self.config["trial"])).touch()
            while not RELEASED.exists():
                time.sleep(0.02)
        return result


workers.sweep.tuner.TrialActor = Held
sys.exit(main(sys.argv[1:]))
"""
"""`python -m workers` whose trials of one process stop after an epoch, saved, until they are released."""


class WorkerRun:
    """`python -m workers` as a process of its own. With `held_at`, its trials stop there until `release` is called."""

    def __init__(
        self,
        environment: dict[str, str],
        spec: Path,
        storage: Path | str,
        cwd: Path,
        *,
        held_at: int | None = None,
    ) -> None:
        self._output = cwd / f"output-{time.monotonic_ns()}.txt"
        self._released = self._output.with_suffix(".released")
        self.storage = Path(storage)
        program = ["-m", "workers"]
        if held_at is not None:
            program = ["-c", HELD.format(epoch=held_at, released=str(self._released))]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, str(spec), "--storage", str(storage)],
                env=environment,
                cwd=cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def holds(self, trial: int) -> bool:
        """Whether this trial is where it is held, saved."""
        return self._released.with_suffix(f".held-{trial}").exists()

    def release(self) -> None:
        self._released.touch()

    @property
    def output(self) -> str:
        return self._output.read_text()

    def finish(self, seconds: float = 200) -> int:
        """Wait for the end. Returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.output) from None


def tiny_spec(**sections: Any) -> dict[str, Any]:
    """The smallest useful experiment: two epochs of five steps."""
    return {
        "name": "tiny",
        "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 2, "hidden": 16, "out": 16}},
        "training": {
            "epochs": 2,
            "warmup_epochs": 0,
            "batch_size": 256,
            "optimizer": "adamw",
            "lr": 0.001,
            "log_every_steps": 2,
            **sections.pop("training", {}),
        },
        **sections,
    }


def spooled_steps(storage: Path, trial: int) -> list[list[int]]:
    """Steps of a trial's points: one list a process that measured any, in the order in which they began."""
    runs = [SpoolReader(file).read(100_000)[0] for file in (storage / "points").glob(f"{trial:04d}-*.jsonl")]
    return [[point.step for point in run] for run in sorted(filter(None, runs), key=lambda run: run[0].time)]
