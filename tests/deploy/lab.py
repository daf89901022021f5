"""docker-compose.yml as it is, run by podman: its containers, their links, their main processes, and its users.

podman-compose makes the containers. Starting them in order is this module's: without systemd nobody runs health checks,
and podman-compose would wait for them for ever. podman restarts what ends, as the file says.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adadim.client import Client, ClientError
from service.cluster.ports import free_ports
from tests.deploy.engine import Engine
from tests.deploy.images import ROOT

PROJECT = "adadim-deploy"
PARTS = ("postgres", "ray-head", "service", "ray-worker")
WORKERS = 2


class Container:
    """One container of the lab."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self.name = engine, name

    @property
    def pid(self) -> int:
        """Of its main process; 0 while it does not run."""
        return int(self._engine.inspect(self.name)["State"]["Pid"])

    @property
    def address(self) -> str:
        networks = self._engine.inspect(self.name)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    @property
    def restarts(self) -> int:
        return int(self._engine.inspect(self.name)["RestartCount"])

    def kill(self) -> None:
        """SIGKILL to its main process, as the kernel does that has no memory left."""
        pid = self.pid
        if pid == 0:
            raise RuntimeError(f"{self.name} does not run")
        os.kill(pid, signal.SIGKILL)

    def run(self, *command: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """What a command prints in it."""
        return self._engine.run("exec", self.name, *command, check=check, timeout_s=timeout_s)

    @contextlib.contextmanager
    def cut_from(self, other: "Container") -> Iterator[None]:
        """Nothing gets from one to the other, and neither is told."""
        rules = [("INPUT", "-s", other.address), ("OUTPUT", "-d", other.address)]
        pid = self.pid
        for rule in rules:
            _iptables(pid, "-I", *rule)
        try:
            yield
        finally:
            if Path(f"/proc/{pid}").exists():  # else its network is gone with it
                for rule in rules:
                    _iptables(pid, "-D", *rule)


def _iptables(pid: int, *arguments: str) -> None:
    command = ["nsenter", "-t", str(pid), "-n", "iptables", "-w", "5", *arguments, "-j", "DROP"]
    subprocess.run(command, check=True, capture_output=True)


class Lab:
    """The containers of docker-compose.yml, with two workers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        (self.port,) = free_ports(1)
        self.variables = {
            "POSTGRES_PASSWORD": f"p@s/s%w:rd #{secrets.token_hex(8)}",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "ADADIM_PORT": str(self.port),
            "RAY_WORKER_CPUS": "1",
        }
        self._token = ""

    def create(self) -> None:
        """Make network, volumes and containers."""
        options = ("--no-start", "--no-build", "--scale", f"ray-worker={WORKERS}")
        self.engine.compose([ROOT / "docker-compose.yml"], self.variables, "-p", PROJECT, "up", *options, timeout_s=180)

    def start(self) -> None:
        """Start all; the service comes before there is a database to reach."""
        for part in ("service", "ray-head", "postgres"):
            self.engine.run("start", self.container(part).name)
        for number in range(WORKERS):
            self.engine.run("start", self.container("ray-worker", number + 1).name)
        wait_for(lambda: bool(self.token), seconds=300, what="the service")
        wait_for(self.is_ready, seconds=300, what="database and cluster")
        wait_for(lambda: len(self.nodes()) == WORKERS + 1, seconds=420, what="the workers")

    def container(self, part: str, number: int = 1) -> Container:
        return Container(self.engine, f"{PROJECT}_{part}_{number}")

    def containers(self) -> dict[str, Container]:
        """All, by what they are called here."""
        workers = {f"worker {number + 1}": self.container("ray-worker", number + 1) for number in range(WORKERS)}
        return {part: self.container(part) for part in PARTS[:3]} | workers

    @property
    def token(self) -> str:
        """The admin's; empty as long as there is none."""
        if not self._token:
            with contextlib.suppress(RuntimeError):
                self._token = self.container("service").run("cat", "/state/token").strip()
        return self._token

    @property
    def storage(self) -> Path:
        """Where the volume with runs' files lies on this machine."""
        return Path(self.engine.run("volume", "inspect", f"{PROJECT}_storage", "--format", "{{.Mountpoint}}").strip())

    def client(self, port: int | None = None) -> Client:
        return Client(f"http://127.0.0.1:{port or self.port}", self.token)

    def is_ready(self) -> bool:
        with contextlib.suppress(ClientError, OSError), self.client() as client:
            return client.is_ready()
        return False

    def nodes(self) -> set[str]:
        """The nodes that the cluster has, by what Ray calls them: one that comes back has another name."""
        said = self.container("ray-head").run("ray", "status", check=False)
        return set(re.findall(r"node_\w+", said.partition("Active:")[2].partition("Pending:")[0]))

    def sql(self, statement: str) -> str:
        return self.container("postgres").run("psql", "-U", "adadim", "-tAc", statement, "adadim").strip()

    def run_service(self, name: str, image: str, port: int, *extra: str, alias: str = "") -> Container:
        """Another service with the settings of the first, but for those in `extra`, and a state of its own."""
        settings = [e for e in self.engine.inspect(self.container("service").name)["Config"]["Env"] if _is_setting(e)]
        options = [option for entry in [*settings, *extra] for option in ("--env", entry)]
        network = f"{PROJECT}_default" + (f":alias={alias}" if alias else "")
        self.engine.run(
            *("run", "--detach", "--name", name, "--restart", "unless-stopped", "--init", "--read-only"),
            *("--cap-drop", "ALL", "--tmpfs", "/tmp", "--network", network, *options),
            *("--volume", f"{PROJECT}_storage:/storage", "--publish", f"127.0.0.1:{port}:8080", image),
        )
        return Container(self.engine, name)


def _is_setting(entry: str) -> bool:
    return entry.startswith(("ADADIM_", "DATABASE_URL=", "PGPASSWORD=", "RAY_"))


class User:
    """Asks the service until it answers."""

    def __init__(self, lab: Lab, port: int | None = None) -> None:
        self._lab, self._port = lab, port

    def ask(self, request: Callable[[Client], Any], *, patience_s: float = 300.0) -> Any:
        """The answer; None if there is no such thing."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                with self._lab.client(self._port) as client:
                    return request(client)
            except (ClientError, OSError) as error:
                status = getattr(error, "status", None)
                if status == 404:
                    return None
                if (status is not None and status < 500 and status != 429) or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)
    return found
