"""The embedded PostgreSQL starts on the machines people have, opens no folder of anybody, and is kept up."""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from service_harness import until

from service.cli.serve import _only_service
from service.database import embedded, server_user
from service.database.embedded import DatabaseNotStarted, EmbeddedPostgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[EmbeddedPostgres]]:
    servers: list[EmbeddedPostgres] = []
    yield servers
    for server in servers:
        server.halt()


async def ask(url: str, query: str = "SELECT 1") -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "name",
    ["my lab", "a&touch INJECTED&b", "it's", "$HOME", "(x)", "größe", 'quo"te', "semi;colon", "`id`", "l" * 120],
    ids=["space", "ampersand", "quote", "dollar", "brackets", "letters", "quotes", "semicolon", "backticks", "long"],
)
async def test_it_starts_in_folders_of_any_name(started: list[EmbeddedPostgres], tmp_path: Path, name: str) -> None:
    server = EmbeddedPostgres(tmp_path / name / "postgres")
    started.append(server)
    url = await asyncio.to_thread(server.launch)
    assert await ask(url) == 1
    assert not any(file == "INJECTED" for _, _, files in os.walk(tmp_path) for file in files)
    await asyncio.to_thread(server.halt)
    assert not server.runs


async def test_it_starts_whatever_the_locale(
    started: list[EmbeddedPostgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LC_ALL", "LC_MESSAGES", "LC_CTYPE", "LANG"):
        monkeypatch.setenv(variable, "xx_XX.UTF-8")  # which is generated nowhere
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    url = await asyncio.to_thread(server.launch)
    assert await ask(url, "SELECT lower('ÄÖ')") == "äö"


async def test_it_starts_under_the_umask_of_the_service(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    before = os.umask(0o077)  # of the whole process, but only this test is at work in it
    try:
        url = await asyncio.to_thread(server.launch)
    finally:
        os.umask(before)
    assert await ask(url) == 1


@as_root
async def test_no_folder_is_opened_for_it(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    state = tmp_path / "private" / "state"
    state.mkdir(parents=True)
    for folder in (tmp_path / "private", state):
        folder.chmod(0o700)
    above = [tmp_path / "private", *tmp_path.parents, embedded._programs(), *embedded._programs().parents]
    modes = {folder: folder.stat().st_mode for folder in [state, *above]}
    server = EmbeddedPostgres(state / "postgres")
    started.append(server)
    url = await asyncio.to_thread(server.launch)
    assert await ask(url) == 1
    assert {folder: folder.stat().st_mode for folder in modes} == modes
    assert stat.S_IMODE((state / "postgres").stat().st_mode) == 0o700
    process = server._process()
    assert process is not None
    assert 0 not in process.uids()


@as_root
def test_a_user_without_a_name_can_have_one() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 54_321, 54_321)
        _start_as_nobody(Path(folder))


def _start_as_nobody(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.database.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); print(server.launch()); server.halt(); print(server.runs)"
    )
    command = [sys.executable, "-I", "-S", server_user.__file__, "54321", "54321", sys.executable, "-c", code]
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(home)}
    ran = subprocess.run(
        [*command, str(home / "postgres")], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1] == "False"
    assert (home / "postgres").stat().st_uid == 54_321


async def test_one_that_is_killed_is_started_again(
    started: list[EmbeddedPostgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_CHECK_S", 0.05)
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    url = await server.start()
    await ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
    process = server._process()
    assert process is not None
    process.kill()

    async def answers() -> bool:
        try:
            return bool(await ask(url, "SELECT n FROM kept") == 7)
        except (OSError, asyncpg.PostgresError):
            return False

    await until(answers)
    again = server._process()
    assert again is not None
    assert again.pid != process.pid
    await server.stop()
    assert not server.runs


async def test_one_whose_socket_was_cleaned_away_gets_another(
    started: list[EmbeddedPostgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_CHECK_S", 0.05)
    server = EmbeddedPostgres(tmp_path / ("l" * 120) / "postgres")
    started.append(server)
    url = await server.start()
    socket = Path(server._pid_file()[4]) / ".s.PGSQL.5432"
    socket.unlink()

    async def answers() -> bool:
        try:
            return bool(await ask(url) == 1)
        except (OSError, asyncpg.PostgresError):
            return False

    await until(answers)
    await server.stop()


async def test_a_second_one_takes_over_what_runs(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    first, second = (EmbeddedPostgres(tmp_path / "postgres") for _ in range(2))
    started.append(first)
    url = await asyncio.to_thread(first.launch)
    assert await asyncio.to_thread(second.launch) == url
    assert first._process() == second._process()


def test_the_number_of_another_process_is_not_taken_for_it(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    server.launch()
    server.halt()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n1\n5432\n{tmp_path}\n\n\nready\n")
    assert not server.runs
    server.launch()
    assert server.runs


def test_what_keeps_it_from_starting_is_told_in_one_line(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    server.launch()
    server.halt()
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = nonsense\n")
    with pytest.raises(DatabaseNotStarted, match=r"did not start in .*postgresql.conf.* contains errors") as no:
        server.launch()
    assert "\n" not in str(no.value)


def test_a_state_directory_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("service.cli.serve.fcntl.flock", no_locks)
    with _only_service(tmp_path):
        pass
    assert "No locks available" in caplog.text
