"""Hostile text in whatever the service answers, through every command that shows some of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from service_harness import Running, add_token
from sqlalchemy import text
from typer.testing import CliRunner

from adadim import client as client_module
from adadim.client import Client, ClientError
from service.cli.main import app
from tests.test_terminal_text import HOSTILE, commands

SHOWN = "\\x1b]"
PLAIN = {
    "id", "state", "metric", "mode", "at", "next_cursor", "event", "kind", "tone", "action", "actions",
    "role", "verdict", "standing", "spec", "spec_text", "format", "params",
}  # fmt: skip
"""Fields that a client acts on; their values are of closed sets."""
Adadim = Callable[..., Awaitable[Result]]


def poisoned(value: Any, key: str = "") -> Any:
    """An answer in which every text for people is hostile."""
    if key in PLAIN or key.endswith("_at"):
        return value
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def _words(value: dict[str, Any]) -> dict[str, Any]:
    """Names in the words are keys."""
    for entries in value.values():
        for entry in entries:
            entry["title"] = f"{entry.get('title', '')}{HOSTILE}"
    return value


@pytest.fixture
async def adadim(service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Adadim:
    """Runs a command beside the service, whose answers are poisoned on their way."""
    monkeypatch.setenv("ADADIM_URL", service.url)
    monkeypatch.setenv("ADADIM_TOKEN", await add_token(service.context.database, "admin", "ada"))
    monkeypatch.setenv("ADADIM_STATE_DIR", str(tmp_path))
    answered, pieces = Client._json, Client._text

    def poison(client: Client, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = answered(client, method, path, **options)
        return _words(answer) if path == "/words" else poisoned(answer)

    def hostile_log(*arguments: Any, **options: Any) -> Iterator[str]:
        yield HOSTILE
        yield from pieces(*arguments, **options)

    monkeypatch.setattr(Client, "_json", poison)
    monkeypatch.setattr(Client, "_text", hostile_log)

    async def run(*arguments: str, **options: Any) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, **options)

    return run


@pytest.fixture
async def number(service: Running) -> str:
    """An experiment that failed with hostile words of its workers, and one trial."""
    found = (await service.submit("name: poisoned"))["id"]
    async with service.context.database.transaction() as session:
        await session.execute(text("UPDATE experiments SET state = 'failed', state_reason = :why"), {"why": "broken"})
        await session.execute(text("UPDATE trials SET state = 'failed', error = 'broken', reason = 'broken'"))
    return str(found)


@pytest.mark.parametrize(
    "command",
    ["list", "watch N", "answer N", "history N", "logs N", "logs N --trial 0", "retry N", "clone N", "token list",
     "submit SPEC", "submit SPEC --dry-run", "delete N", "delete N --yes", "token create carol", "extend N --seeds 2"],
)  # fmt: skip
async def test_no_command_passes_on_what_commands_a_terminal(
    adadim: Adadim, number: str, tmp_path: Path, command: str
) -> None:
    (tmp_path / "spec.yaml").write_text("name: a")
    arguments = command.replace("N", number).replace("SPEC", str(tmp_path / "spec.yaml")).split()
    result = await adadim(*arguments, input="n\n" if command == "delete N" else None)
    told = result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert commands(told) == []
    if not command.startswith("extend"):  # which a run without seeds refuses, in the service's own words
        assert SHOWN in told


@pytest.mark.parametrize("command", ["list", "watch N", "answer N", "history N", "token list"])
async def test_json_is_plain_too_and_whole(adadim: Adadim, number: str, command: str) -> None:
    result = await adadim(*command.replace("N", number).split(), "--json")
    assert commands(result.output) == []
    assert HOSTILE in str([json.loads(result.output if "watch" not in command else result.output.splitlines()[0])]) or (
        json.dumps(HOSTILE)[1:-1] in result.output
    )


async def test_errors_are_plain(adadim: Adadim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_error", lambda response: ClientError(f"refused {HOSTILE}", 409))
    result = await adadim("watch", "4711")
    assert result.exit_code == 1
    assert SHOWN in result.stderr
    assert commands(result.output + result.stderr) == []


async def test_what_doctor_found_is_plain(adadim: Adadim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray-trouble").write_text(f"the head said {HOSTILE}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = await adadim("doctor")
    assert SHOWN in result.output
    assert commands(result.output) == []
