"""The parts of a lab on one machine: PostgreSQL, a Ray cluster, service replicas. Each can be killed and restarted.

A part is what a supervisor (Kubernetes, compose, systemd) restarts as a whole: killing it kills all it started.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from adadim.client import Client
from service.cluster.ports import free_ports

RAY_TOKEN = "a-token-for-the-ray-cluster-of-the-chaos-test"
MARKER = "ADADIM_CHAOS"
"""Environment variable of every process of the test; its value names the part."""


class Part:
    """One supervised process with everything below it."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self.label = f"{folder}:{name}"
        self._command = command
        self._log = folder / f"{name}.log"
        hidden = ("DATABASE_URL", "RAY_", "ADADIM_")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            MARKER: self.label,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self._sessions.add(self._process.pid)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Everything of this part: Ray's own processes hide their environment but keep the session."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if os.getsid(process.pid) in self._sessions or process.environ().get(MARKER) == self.label:
                    found.append(process)
        return found

    def kill(self) -> None:
        """SIGKILL to all of it, as when its container or its machine dies."""
        for _ in range(3):  # processes may start others while they are killed
            processes = self.processes()
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(processes, timeout=5)
        if self._process is not None:
            self._process.wait(10)

    def stop(self) -> None:
        """Politely, and then not."""
        if self._process is not None and self.runs:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()


_START_POSTGRES = """
import sys
from pathlib import Path
from service.database.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).launch())
"""


class Postgres:
    """The database server, restarted on the same data."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        self._directory = folder / "pg"
        self.url = ""

    def start(self) -> None:
        # In a process of its own: one that is killed is not this process's child, and leaves no zombie.
        answer = subprocess.run(
            [sys.executable, "-c", _START_POSTGRES, str(self._directory)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if answer.returncode:
            raise OSError(f"PostgreSQL did not start: {answer.stderr[-2000:]}")
        self.url = answer.stdout.strip()

    @property
    def runs(self) -> bool:
        return bool(self.processes())

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                ours = str(self._directory) in command and "postgres" in Path(command[0]).name
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found += [process, *process.children(recursive=True)]
        return found

    def kill(self) -> None:
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=5)

    def stop(self) -> None:
        for process in self.processes()[:1]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGINT)  # fast shutdown
        wait_for(lambda: not self.runs, seconds=20, what="PostgreSQL to stop", fail=False)
        self.kill()


class Lab:
    """2 replicas, PostgreSQL, a Ray head and two more nodes, or none; a folder they share."""

    def __init__(self, folder: Path, *, slots: int, nodes: int = 2) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.postgres = Postgres(folder)
        gcs, dashboard, client, *rest = free_ports(3 + 3 + 2)
        agents, ports = rest[:3], rest[3:]
        self.ray_url = f"http://127.0.0.1:{dashboard}"
        ray = str(Path(sys.executable).with_name("ray"))
        secret = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": RAY_TOKEN,
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # a node without a head ends, and is restarted
        }
        common = ["--block", "--min-worker-port=0", "--max-worker-port=0", f"--num-cpus={6 // (1 + nodes)}"]
        common.append("--disable-usage-stats")
        self.head = Part(
            "head",
            [ray, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}",
             f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agents[0]}",
             f"--temp-dir=/tmp/adadim-chaos-{os.getpid()}", *common],
            secret, folder,
        )  # fmt: skip
        self.nodes = [
            Part(
                f"node-{number}",
                [ray, "start", f"--address=127.0.0.1:{gcs}", "--node-ip-address=127.0.0.1",
                 f"--dashboard-agent-listen-port={agent}", *common],
                secret, folder,
            )
            for number, agent in enumerate(agents[1 : 1 + nodes], 1)
        ]  # fmt: skip
        self._slots = str(slots)
        self._ports = ports
        self.replicas: list[Part] = []

    def start(self) -> None:
        self.storage.mkdir(parents=True)
        self.postgres.start()
        self.head.start()
        self.replicas = [
            Part(
                f"replica-{number}",
                [sys.executable, "-m", "service.cli.main", "serve"],
                {
                    "DATABASE_URL": self.postgres.url,
                    "RAY_ADDRESS": self.ray_url,
                    "RAY_AUTH_TOKEN": RAY_TOKEN,
                    "ADADIM_STATE_DIR": str(self.folder / f"state-{number}"),
                    "ADADIM_STORAGE": str(self.storage),
                    "ADADIM_PORT": str(port),
                    "ADADIM_SLOTS": self._slots,
                },
                self.folder,
            )
            for number, port in enumerate(self._ports, 1)
        ]
        for replica in self.replicas:
            replica.start()
        wait_for(self.head_answers, seconds=300, what="the Ray head")
        for node in self.nodes:
            node.start()
        for number in range(2):
            wait_for(lambda n=number: self.replica_answers(n), seconds=300, what="the replicas")  # type: ignore[misc]

    @property
    def parts(self) -> list[Part | Postgres]:
        return [self.postgres, self.head, *self.nodes, *self.replicas]

    def client(self, number: int) -> Client:
        token = (self.folder / f"state-{number + 1}" / "token").read_text().strip()
        return Client(f"http://127.0.0.1:{self._ports[number]}", token)

    def replica_answers(self, number: int) -> bool:
        with contextlib.suppress(OSError), self.client(number) as client:
            return client.is_ready()
        return False

    def head_answers(self) -> bool:
        return self.ray("/api/version") is not None

    def ray(self, path: str) -> object | None:
        """What Ray's dashboard answers, or None."""
        headers = {"Authorization": f"Bearer {RAY_TOKEN}"}
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.get(self.ray_url + path, headers=headers, timeout=5, trust_env=False)
            return answer.json() if answer.is_success else None
        return None

    def drivers(self) -> list[psutil.Process]:
        return self._ray_processes(lambda command: "env:ADADIM_SPEC" in command and command[0].endswith("python"))

    def trial_actors(self) -> list[psutil.Process]:
        return self._ray_processes(lambda command: command[0].startswith("ray::") and "Trainable." in command[0])

    def _ray_processes(self, wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        found = []
        for part in (self.head, *self.nodes):
            for process in part.processes():
                with contextlib.suppress(psutil.Error, IndexError):
                    if wanted(process.cmdline()):
                        found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def stop(self) -> list[psutil.Process]:
        """End every part in order; what would not end is returned, and killed."""
        for part in (*self.replicas, *self.nodes, self.head, self.postgres):
            if isinstance(part, Part) and part._process is not None and part.runs:
                part._process.send_signal(signal.SIGTERM)
        for part in (*self.replicas, *self.nodes, self.head):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if part._process is not None:
                    part._process.wait(60)
        self.postgres.stop()
        parts = (*self.replicas, *self.nodes, self.head)
        wait_for(lambda: not any(p.processes() for p in parts), seconds=30, what="processes to end", fail=False)
        left = [process for part in self.parts for process in part.processes()]
        for part in self.parts:
            part.kill()
        return left


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str, fail: bool = True) -> float:
    """Wait for a condition; the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            if fail:
                raise AssertionError(f"waited {seconds:.0f} s for {what}")
            break
        time.sleep(0.2)
    return time.monotonic() - began


@contextlib.contextmanager
def lab(folder: Path, *, slots: int, nodes: int = 2) -> Iterator[Lab]:
    """A lab that is gone afterwards, however the test ends."""
    made = Lab(folder, slots=slots, nodes=nodes)
    try:
        made.start()
        yield made
    finally:
        for part in made.parts:
            part.kill()
