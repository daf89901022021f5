"""The commands of docker-compose.yml, run as plain processes with the environment that file gives them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from adadim.client import Client
from adadim_core.version import VERSION
from service.cluster.ports import free_ports
from service.database.embedded import EmbeddedPostgres
from service.settings import Settings
from tests.e2e.conftest import sweep, wait_for

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
RAY_TOKEN = "a-token-for-the-ray-cluster-0123456789"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_container_command_works_as_a_process_and_together_they_run_an_experiment(tmp_path: Path) -> None:
    ports = dict(zip(("8080", "8265", "6379", "agent-head", "agent-worker", "client"), free_ports(6), strict=True))
    with contextlib.ExitStack() as stack:
        database_url = stack.enter_context(_postgres(tmp_path / "postgres"))

        def here(text: str) -> str:
            """A value of the file with this machine's addresses and folders in place of the containers'."""
            text = filled_in(text, {"RAY_AUTH_TOKEN": RAY_TOKEN, "POSTGRES_PASSWORD": "unused"})
            text = re.sub(r"\b(ray-head|service)\b", "127.0.0.1", text)
            for port in ("8080", "8265", "6379"):
                text = re.sub(rf"(?<=[:=]){port}\b", str(ports[port]), text)
            text = text.replace("0.0.0.0", "127.0.0.1")
            return re.sub(r"^/(storage|state)\b", rf"{tmp_path}/\1", text)

        def start(name: str, *extra: str, **environment: str) -> None:
            part: dict[str, Any] = COMPOSE["services"][name]
            values = {key: here(value) for key, value in part["environment"].items()} | environment
            command = [here(word) if index else word for index, word in enumerate(part["command"])]
            stack.enter_context(_process([*command, *extra], values, tmp_path / f"{name}.log"))

        start(
            "ray-head",
            f"--dashboard-agent-listen-port={ports['agent-head']}",
            f"--ray-client-server-port={ports['client']}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--temp-dir=/tmp/adadim-test-{os.getpid()}",
        )
        wait_for(lambda: _answers(ports["8265"]), timeout_s=120, what="the Ray head")
        start(
            "ray-worker",
            f"--dashboard-agent-listen-port={ports['agent-worker']}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--num-cpus=2",
        )
        start(
            "service",
            DATABASE_URL=database_url,
            ADADIM_STATE_DIR=str(tmp_path / "state"),
            ADADIM_PORT=str(ports["8080"]),
        )
        wait_for(lambda: _answers(ports["8080"]), timeout_s=120, what="the service")
        token = wait_for(lambda: _read(tmp_path / "state" / "token"), timeout_s=60, what="the admin token")
        with Client(f"http://127.0.0.1:{ports['8080']}", token) as client:
            wait_for(client.is_ready, timeout_s=60, what="database and cluster")
            experiment_id = client.submit(sweep(epochs=2))["id"]
            ended = wait_for(
                lambda: (e := client.experiment(experiment_id))["state"] in ("succeeded", "failed") and e,
                timeout_s=120,
                what="the experiment's end",
            )
            assert ended["state"] == "succeeded", "".join(client.logs(experiment_id))
        assert list((tmp_path / "storage").iterdir()), "results lie in the shared storage"


def test_images_run_the_documented_commands() -> None:
    images = ROOT / "deploy" / "images"
    for name, file in (("service", "service.Dockerfile"), ("ray-head", "ray.Dockerfile")):
        command = re.search(r"^CMD (\[.*\])$", (images / file).read_text(), re.MULTILINE)
        assert command is not None
        assert yaml.safe_load(command[1]) == COMPOSE["services"][name]["command"]


def test_images_have_every_package_and_its_dependencies_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0].rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    sent = {line[1:] for line in ignored if line.startswith("!")}
    for file in ("service.Dockerfile", "ray.Dockerfile"):
        copied = re.findall(r"^COPY (\w+) \./", (ROOT / "deploy" / "images" / file).read_text(), re.MULTILINE)
        assert packages <= set(copied) <= sent
    command = [sys.executable, ROOT / "deploy" / "images" / "requirements.py"]
    service = subprocess.check_output([*command, "service"], text=True, cwd=ROOT)
    assert {"asyncpg>=0.31", "httpx>=0.28"} <= set(service.splitlines())
    assert not re.search("torch|ray|pgserver|^adadim", service, re.MULTILINE)
    ray = subprocess.check_output([*command, "workers", "gpu"], text=True, cwd=ROOT)
    assert re.search("^torch>=.*^ray.*^nvidia-ml-py", ray, re.MULTILINE | re.DOTALL)


def test_every_container_is_bounded_and_reaches_the_outside_on_loopback_only() -> None:
    for name, service in COMPOSE["services"].items():
        assert "mem_limit" in service, name
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys(), name
        if name != "caddy":  # which is there to be reached
            for port in service.get("ports", []):
                assert filled_in(port, {}).startswith("127.0.0.1:")
    built = [service["image"] for service in COMPOSE["services"].values() if "build" in service]
    assert len(built) == len(set(built)) == 2
    assert {filled_in(image, {}).partition(":")[2] for image in built} == {VERSION, f"{VERSION}-cpu"}


def test_passwords_stand_in_no_address() -> None:
    """In an address @ / and % would have to be escaped, which Compose cannot do."""
    environment = COMPOSE["services"]["service"]["environment"]
    assert environment["PGPASSWORD"] == "${POSTGRES_PASSWORD}"
    values = {name: filled_in(value, {"RAY_AUTH_TOKEN": "t"}) for name, value in environment.items()}
    settings = Settings.from_environ(values)
    assert settings.database_url == "postgresql://adadim@postgres:5432/adadim"


def filled_in(text: str, environment: dict[str, str]) -> str:
    """A value as Compose reads it: ${NAME}, ${NAME:-default}, ${NAME:?message}."""

    def value(found: re.Match[str]) -> str:
        name, mark, rest = found[1], found[2], found[3]
        return environment.get(name) or (rest if mark == ":-" else "")

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)


@contextlib.contextmanager
def _postgres(directory: Path) -> Iterator[str]:
    server = EmbeddedPostgres(directory)
    url = server.launch()
    try:
        yield url
    finally:
        server.halt()


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str], log_path: Path) -> Iterator[None]:
    bin_dir = Path(sys.executable).parent
    hidden = ("DATABASE_URL", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "ADADIM_STATE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(bin_dir / command[0]), *command[1:]],
            env=kept
            | environment
            | {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for child in [*children, *([psutil.Process(process.pid)] if process.poll() is None else [])]:
            with contextlib.suppress(psutil.Error):
                child.kill()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
