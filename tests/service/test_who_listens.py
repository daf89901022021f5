"""The token of a state directory goes to its own service only, whoever has the port by now."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from click.testing import Result
from service_harness import Running
from typer.testing import CliRunner

from adadim.client import Client, ClientError
from adadim.connection import open_client
from adadim_core.spec.service_proof import ROUTE, service_proof
from service.cli.main import app


class Thief:
    """Listens where a service was, and keeps all that is sent to it. May pass questions on to the real service."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.passes_on_to: str | None = None
        self.knows: str | None = None
        """The token, while it is the service itself."""
        thief = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                thief.heard.append(f"{self.path}\n{self.headers}")
                proof, url = "0", urlsplit(self.path)
                if thief.knows is not None and url.path == ROUTE:
                    nonce = parse_qs(url.query)["nonce"][0]
                    proof = service_proof(thief.knows, nonce, urlsplit(thief.url).port or 0)
                body, status = json.dumps({"proof": proof}).encode(), 200
                if thief.passes_on_to is not None:
                    answer = httpx.get(f"{thief.passes_on_to}{self.path}", trust_env=False)
                    body, status = answer.content, answer.status_code
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def thief() -> Iterator[Thief]:
    thief = Thief()
    yield thief
    thief.end()


@pytest.fixture
def home(service: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The service's state directory, as `adadim serve` leaves it. Nothing else names a service or a token."""
    for name in ("ADADIM_URL", "ADADIM_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    directory = service.context.settings.state_dir
    directory.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("ADADIM_STATE_DIR", str(directory))
    (directory / "token").write_text(service.token + "\n")
    (directory / "service.json").write_text(json.dumps({"url": service.url, "pid": os.getpid()}))
    yield directory
    for name in ("token", "service.json"):
        (directory / name).unlink()


async def _adadim(*arguments: str, **options: Any) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, **options)


def _told(result: Result) -> str:
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    return line


async def test_what_serve_leaves_in_the_state_directory_is_found(home: Path) -> None:
    result = await _adadim("list")
    assert result.exit_code == 0, result.output


async def test_a_stale_record_is_told_in_a_line_and_its_port_gets_no_token(
    home: Path, service: Running, thief: Thief
) -> None:
    (home / "service.json").write_text(json.dumps({"url": thief.url, "pid": 1}))
    line = _told(await _adadim("list"))
    assert line.startswith(f"Error: what listens at {thief.url} is not the service of {home}")
    assert len(thief.heard) == 1
    assert service.token not in str(thief.heard)


async def test_a_stale_address_in_the_environment_gets_no_token_either(
    home: Path, service: Running, thief: Thief
) -> None:
    line = _told(await _adadim("list", env={"ADADIM_URL": f"{thief.url}/"}))
    assert "whose token was not sent" in line
    assert "authorization" not in str(thief.heard).lower()
    # A token that was given for an address is sent there: whoever set both vouches for them.
    await _adadim("list", env={"ADADIM_URL": thief.url, "ADADIM_TOKEN": "adadim_given"})
    assert "adadim_given" in str(thief.heard)


async def test_who_passes_the_question_on_to_the_real_service_gets_no_token(
    home: Path, service: Running, thief: Thief
) -> None:
    thief.passes_on_to = service.url
    _told(await _adadim("list", env={"ADADIM_URL": thief.url}))
    assert "/api/v1/identity" in thief.heard[0]
    assert "authorization" not in str(thief.heard).lower()


async def test_nobody_at_the_recorded_address_is_told_in_a_line(home: Path, thief: Thief) -> None:
    (home / "service.json").write_text(json.dumps({"url": thief.url, "pid": 1}))
    thief.end()
    assert _told(await _adadim("list")).startswith(f"Error: no answer from {thief.url}")


def test_the_port_of_a_service_that_ended_meanwhile_gets_no_token(thief: Thief, tmp_path: Path) -> None:
    """A notebook's client outlives the service: at each new connection somebody else may listen."""
    thief.knows = "adadim_of_this_machine"  # the service, for now
    client = Client(thief.url, "adadim_of_this_machine", of=tmp_path)
    client.words()
    assert "adadim_of_this_machine" in thief.heard.pop()
    thief.knows = None
    with pytest.raises(ClientError, match="what listens at"):
        client.experiments()
    client.close()
    assert "/api/v1/identity" in thief.heard[-1]
    assert "adadim_of_this_machine" not in str(thief.heard)


async def test_the_answer_says_nothing_without_the_token(home: Path, service: Running) -> None:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
        found = (await http.get("/api/v1/identity", params={"nonce": "0" * 64})).json()
        assert (await http.get("/api/v1/identity", params={"nonce": "x"})).status_code == 422
        (home / "token").write_text("")
        assert (await http.get("/api/v1/identity", params={"nonce": "0" * 64})).status_code == 404
    assert set(found) == {"proof"}
    assert len(found["proof"]) == 64


async def test_a_whole_service_leaves_a_header_file_for_curl(start_service: Callable[..., Any], ray: Any) -> None:
    service = await start_service(ray)
    file = service.context.settings.state_dir / "token.header"
    assert file.read_text() == f"Authorization: Bearer {service.token}\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_example_puts_a_token_into_an_argument() -> None:
    """Arguments of a program are shown to every user of the machine while it runs."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "deploy").rglob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    assert not [line for line in lines if "Authorization: Bearer $" in line and "header" not in line]
    assert any('curl -H @"$HEADER"' in line for line in lines)


def test_open_client_takes_what_it_is_given_without_asking(thief: Thief) -> None:
    open_client(thief.url, "adadim_given").close()
    assert thief.heard == []
