"""Whatever environment and input are, `adadim` and `python -m workers` end with one line that says what to do."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from service.cli.main import app
from service.cluster.claim import DatabaseInUse
from service.secret import read_secret
from service.starting import CANNOT_START, why_not
from workers.__main__ import main

PASSWORD = "hushed"
GOOD = "{name: a, model: {backbone: conv_small, width: 8}, training: {epochs: 1}}"


class Place:
    """A folder with what a case needs, and the environment of its command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        for name in list(os.environ):
            if name.startswith(("ADADIM_", "RAY_", "PG", "OTEL_")) or name.upper().endswith("_PROXY") or name in (
                "DATABASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR",
            ):  # fmt: skip
                monkeypatch.delenv(name)
        self.env(ADADIM_STATE_DIR=str(folder / "state"))
        monkeypatch.chdir(folder)

    def env(self, **values: str) -> None:
        for name, value in values.items():
            self._patch.setenv(name, value)

    def file(self, name: str, content: str | bytes = "") -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


port = pytest.fixture(taken_port)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The address of a web server that is not ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def one_line(result: Result, code: int = 1) -> str:
    """What it told on standard error: one line."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.output
    assert PASSWORD not in result.output
    return lines[0]


def told(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=text)


SERVE: list[tuple[dict[str, str], str]] = [
    ({"DATABASE_URL": ""}, "DATABASE_URL: is empty"),
    ({"DATABASE_URL": "mysql://u:hushed@db/x"}, "this names MySQL"),
    ({"DATABASE_URL": "sqlite:////tmp/x.db"}, "this names SQLite"),
    ({"DATABASE_URL": "postgresql://u:hushed@x@db/x"}, "@ as %40"),
    ({"DATABASE_URL": "postgresql://u:hushed@db/x?schema=lab"}, "schema is no parameter"),
    ({"DATABASE_URL": "postgresql://u:hushed@127.0.0.1/x?sslrootcert=/not/there"}, "/not/there: No such file"),
    ({"ADADIM_PORT": "http"}, "ADADIM_PORT: "),
    ({"ADADIM_PORT": "70000"}, "ADADIM_PORT: "),
    ({"ADADIM_LOG": "xml"}, "ADADIM_LOG: "),
    ({"RAY_ADDRESS": "ray://head:10001"}, "RAY_ADDRESS: should begin with http:// or https://"),
    ({"RAY_ADDRESS": "auto"}, "RAY_ADDRESS: should begin with http:// or https://"),
    ({"RAY_ADDRESS": "http://head:8265"}, "ADADIM_PUBLIC_URL: needed with a cluster elsewhere"),
    ({"ADADIM_STORAGE": "ftp://hushed@host/x"}, "ADADIM_STORAGE: must be a folder"),
    ({"ADADIM_STATE_DIR": "FILE/state"}, "Not a directory"),
    ({"ADADIM_STATE_DIR": "FILE"}, "File exists"),
    (
        {"ADADIM_HOST": "no.such.host.invalid", "RAY_ADDRESS": "http://127.0.0.1:1"},
        "cannot listen on no.such.host.invalid",
    ),
    ({"ADADIM_PORT": "TAKEN", "RAY_ADDRESS": "http://127.0.0.1:1"}, "set ADADIM_PORT to a free port"),
]


@pytest.mark.parametrize(("environment", "words"), SERVE, ids=[words for _, words in SERVE])
def test_serve_tells_in_one_line_why_it_does_not_start(
    environment: dict[str, str], words: str, place: Place, port: int
) -> None:
    file = place.file("file")
    place.env(**{name: value.replace("FILE", file).replace("TAKEN", str(port)) for name, value in environment.items()})
    assert words in one_line(told("serve"))
    assert not (place.folder / "state" / "postgres").exists()


def test_doctor_tells_the_same_without_a_trace(place: Place) -> None:
    for environment in ({"DATABASE_URL": "postgresql://u:hushed@x@db/x"}, {"ADADIM_PORT": "http"}):
        place.env(**environment)
        one_line(told("doctor"))


def test_doctor_goes_on_after_what_is_broken(place: Place) -> None:
    place.env(ADADIM_STATE_DIR=place.file("file") + "/state", RAY_ADDRESS="http://127.0.0.1:1")
    found = told("doctor")
    assert found.exit_code == 1
    assert "Traceback" not in found.output
    assert found.output.count("fail") >= 2


CLIENT: list[tuple[dict[str, str], list[str], str]] = [
    ({}, ["list"], "no service found"),
    ({"ADADIM_URL": "http://127.0.0.1:1"}, ["list"], "no token"),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "t"}, ["list"], "no answer from http://127.0.0.1:1"),
    ({"ADADIM_URL": "127.0.0.1:8080", "ADADIM_TOKEN": "t"}, ["list"], "looks like http://127.0.0.1:8080"),
    ({"ADADIM_URL": "http://[::1", "ADADIM_TOKEN": "t"}, ["list"], "http://[::1"),
    ({"ADADIM_URL": "http://host:port", "ADADIM_TOKEN": "t"}, ["list"], "http://host:port"),
    ({"ADADIM_URL": "ftp://host", "ADADIM_TOKEN": "t"}, ["list"], "looks like http://127.0.0.1:8080"),
    (
        {"ADADIM_URL": "http://lab", "ADADIM_TOKEN": "t", "HTTP_PROXY": "nonsense://"},
        ["list"],
        "HTTP_PROXY names no proxy",
    ),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "tökén"}, ["list"], "not a token"),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "a\nb"}, ["list"], "not a token"),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "t"}, ["submit", "absent.yaml"], "absent.yaml: No such file"),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "t"}, ["submit", "."], "Is a directory"),
    ({"ADADIM_URL": "http://127.0.0.1:1", "ADADIM_TOKEN": "t"}, ["submit", "latin.yaml"], "latin.yaml"),
    (
        {"ADADIM_URL": "WEB", "ADADIM_TOKEN": "t"},
        ["list"],
        "answers HTTP 404 File not found, not as an AdaDim service does",
    ),
    ({"ADADIM_URL": "WEB", "ADADIM_TOKEN": "t"}, ["submit", "good.yaml"], "answers HTTP 501 Unsupported method"),
    ({"ADADIM_URL": "WEB", "ADADIM_TOKEN": "t"}, ["logs", "1"], "answers HTTP 404 File not found"),
    ({}, ["report", "absent"], "absent"),
    ({}, ["report", "latin.yaml"], "latin.yaml"),
    ({}, ["demo", "absent.yaml"], "absent.yaml"),
]


@pytest.mark.parametrize(("environment", "command", "words"), CLIENT, ids=[f"{c} {w}" for _, c, w in CLIENT])
def test_other_commands_tell_in_one_line(
    environment: dict[str, str], command: list[str], words: str, place: Place, web: str
) -> None:
    place.file("latin.yaml", "name: größe".encode("latin-1"))
    place.file("good.yaml", GOOD)
    place.env(**{name: value.replace("WEB", web) for name, value in environment.items()})
    assert words in one_line(told(*command))


WORKERS: list[tuple[dict[str, str], list[str], str]] = [
    ({}, ["absent.yaml"], "cannot read spec absent.yaml: No such file"),
    ({}, ["."], "cannot read spec .: Is a directory"),
    ({}, ["latin.yaml"], "latin.yaml"),
    ({}, ["broken.yaml"], "broken.yaml"),
    ({}, ["empty.yaml"], "empty.yaml"),
    ({}, ["list.yaml"], "list.yaml"),
    ({}, ["wrong.yaml"], "did you mean 'training'?"),
    ({}, ["env:SPEC_OF_NOBODY"], "SPEC_OF_NOBODY is not set"),
    ({}, ["good.yaml", "--storage", ""], "--storage is empty"),
    ({}, ["good.yaml", "--storage", "file"], "file"),
    ({}, ["good.yaml", "--storage", "file/below"], "file"),
    ({}, ["good.yaml", "--storage", "ftp://host/x"], "ftp://host/x"),
    ({}, ["good.yaml", "--storage", "s3://"], "s3://"),
    ({}, ["data.yaml"], "there is no "),
    ({"ADADIM_SERVICE_URL": "http://127.0.0.1:1"}, ["good.yaml"], "ADADIM_ATTEMPT_ID"),
    ({"ADADIM_SERVICE_URL": "nonsense", "ADADIM_ATTEMPT_ID": "1", "ADADIM_ATTEMPT_CODE": "t"}, ["good.yaml"],
     "nonsense is no address of a service"),
    ({"RAY_ADDRESS": "nonsense://x"}, ["good.yaml"], "RAY_ADDRESS"),
    ({}, ["import", "absent", "--service", "http://127.0.0.1:1"], "ADADIM_TOKEN is not set"),
    ({"ADADIM_TOKEN": "tökén"}, ["import", "absent", "--service", "http://127.0.0.1:1"], "not a token"),
    ({"ADADIM_TOKEN": "t"}, ["import", "absent", "--service", "http://127.0.0.1:1"], "not the results of a finished"),
    ({"ADADIM_TOKEN": "t"}, ["import", "file", "--service", "http://127.0.0.1:1"], "file"),
]  # fmt: skip


@pytest.mark.parametrize(("environment", "command", "words"), WORKERS, ids=[f"{c} {w}" for _, c, w in WORKERS])
def test_workers_tell_in_one_line(
    environment: dict[str, str],
    command: list[str],
    words: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("workers.interruption.Interruption.install", lambda _: None)
    place.file("latin.yaml", "name: größe".encode("latin-1"))
    place.file("broken.yaml", "name: [a")
    place.file("empty.yaml")
    place.file("file", "text")
    place.file("list.yaml", "[1, 2]")
    place.file("wrong.yaml", "name: a\ntrainig: {}")
    place.file("good.yaml", GOOD)
    place.file("data.yaml", GOOD[:-1] + ", data: {dataset: image_folder, path: absent}}")
    place.env(**environment)
    assert main(command) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert words in lines[0]


def test_results_that_cannot_be_written_end_a_run_in_one_line(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results.json")

    monkeypatch.setattr("workers.interruption.Interruption.install", lambda _: None)
    monkeypatch.setattr("workers.__main__.run_experiment", full)
    assert main([place.file("good.yaml", GOOD), "--storage", "results"]) == 1
    assert capfd.readouterr().err == "failed: results.json: No space left on device\n"


def test_any_width_and_encoding_of_a_terminal_will_do(place: Place) -> None:
    environment = os.environ | {"COLUMNS": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "service.cli.main", "doctor"]
    environment |= {"ADADIM_STATE_DIR": str(place.folder / "größe"), "RAY_ADDRESS": "http://127.0.0.1:1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "gr\\xf6\\xdfe" in found.stdout
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; the service writes below"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/s/token"), "/s/token: Is a directory; the service writes"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "the database refuses what the start does there"),
        (ProgrammingError("CREATE TABLE x (\n ...", {}, Exception("<class 'asyncpg.x.Y'>: permission denied\nDETAIL")),
         "(permission denied); `adadim doctor` says more"),
        (DatabaseInUse("another service uses it; the same RAY_ADDRESS"), "a DATABASE_URL of its own"),
    ],
)  # fmt: skip
def test_what_a_start_can_raise_is_said_in_one_line(error: Exception, words: str) -> None:
    assert isinstance(error, CANNOT_START)
    assert words in why_not(error)
    assert "\n" not in why_not(error)


def test_a_file_that_holds_no_secret_is_as_good_as_none(place: Place) -> None:
    for content in (b"\xff\xfe\x00", b"two words", b""):
        assert read_secret(Path(place.file("state/token", content))) == ""
    assert read_secret(Path(place.file("state/token", b" adadim_x \n"))) == "adadim_x"
    place.file("state/service.json", '{"url": "http://127.0.0.1:1"}')
    place.file("state/token", b"\xff\xfe")
    assert "state/token holds no token" in one_line(told("list"))
