"""The embedded PostgreSQL starts on the machines people have, opens no folder of anybody, and is kept up."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from service_harness import until

from service.cli.serve import only_service
from service.database import embedded, initdb, programs, server_user
from service.database.embedded import EmbeddedPostgres
from service.database.programs import DatabaseNotStarted

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
    [
        "my lab & touch INJECTED & größe",
        "l" * 120,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("it's", "$HOME", "(x)", 'quo"te', "semi;colon", "`id`")
        ),
    ],
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
    above = [tmp_path / "private", *tmp_path.parents, programs.programs(), *programs.programs().parents]
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
        [*command, str(home / "postgres")], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1] == "False"
    assert (home / "postgres").stat().st_uid == 54_321


@pytest.mark.usefixtures("quick_initdb")
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


@pytest.mark.usefixtures("quick_initdb")
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


@pytest.mark.usefixtures("quick_initdb")
async def test_a_second_one_takes_over_what_runs(started: list[EmbeddedPostgres], tmp_path: Path) -> None:
    first, second = (EmbeddedPostgres(tmp_path / "postgres") for _ in range(2))
    started.append(first)
    url = await asyncio.to_thread(first.launch)
    assert await asyncio.to_thread(second.launch) == url
    assert first._process() == second._process()


def test_an_initdb_that_is_killed_leaves_nothing_that_is_taken_for_a_database(
    started: list[EmbeddedPostgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes PG_VERSION first."""

    def killed(folder: Path) -> Path:
        program = folder / "initdb"
        program.write_text('#!/bin/sh\nmkdir "$2/base" && echo 18 > "$2/PG_VERSION" && kill -9 $$\n')
        program.chmod(0o755)
        return program

    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    with monkeypatch.context() as patch:
        patch.setattr(initdb, "_own_initdb", killed)
        with pytest.raises(DatabaseNotStarted, match="initdb failed in"):
            server.launch()
    (tmp_path / ".postgres.making-0").mkdir()  # of a service that was killed with it
    server.launch()
    assert server.runs
    assert [folder.name for folder in tmp_path.iterdir()] == ["postgres"]


def test_files_of_somebody_in_the_place_of_the_database_stay(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("the only copy")
    with pytest.raises(DatabaseNotStarted, match="holds files, but no PostgreSQL database; move them elsewhere"):
        EmbeddedPostgres(tmp_path / "postgres").launch()
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "the only copy"


@pytest.mark.parametrize(
    ("state", "noexec", "found"),
    [
        ("state", {"temporary"}, "state"),
        ("my state", set(), "temporary"),
        ("state", {"state"}, "temporary"),
        ("my state", {"temporary", "/tmp", "/var/tmp"}, None),
    ],
    ids=["beside the data", "plain for a shell", "where programs run", "nowhere"],
)
def test_copies_of_programs_are_run_where_the_system_runs_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, noexec: set[str], found: str | None
) -> None:
    """`/tmp` is often mounted noexec."""
    for name in (state, "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    flags = {tmp_path / name: os.ST_NOEXEC for name in noexec}  # of an absolute one: itself
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_flag=flags.get(Path(path), 0)))
    if found is not None:
        assert initdb._folder_for_programs(tmp_path / state, None) == tmp_path / found
        return
    with pytest.raises(DatabaseNotStarted, match=r"temporary is mounted noexec, /tmp is .*; set TMPDIR") as no:
        initdb._folder_for_programs(tmp_path / state, None)
    assert "\n" not in str(no.value)


@pytest.fixture
def recovering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedPostgres]:
    """A server that recovers from a crash until SIGUSR1, whatever asks it to end."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "postgres"
    program.write_text(
        f"#!{sys.executable} -IS\n"
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "data = sys.argv[sys.argv.index('-D') + 1]\n"
        "def tell(status):\n"
        "    with open(data + '/new.pid', 'w') as file:\n"
        "        file.write('\\n'.join([str(os.getpid()), data, '1', '5432', data, '', '', status, '']))\n"
        "    os.rename(data + '/new.pid', data + '/postmaster.pid')\n"
        "open(data + '/.s.PGSQL.5432', 'w').close()\n"
        "print('LOG:  redo in progress', flush=True)\n"
        "tell('starting')\n"
        "signal.sigwait({signal.SIGUSR1})\n"
        "tell('ready   ')\n"
        "signal.pause()\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(embedded, "programs", lambda: folder)
    monkeypatch.setattr(embedded, "_STOP_S", 0.1)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    if server._starting is not None:
        server._starting.kill()
        server._starting.wait()


async def test_recovery_is_waited_for_and_never_killed(
    recovering: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_TELL_S", 0.05)
    launching = asyncio.create_task(asyncio.to_thread(recovering.launch))
    process = await until(lambda: "redo in progress" in (recovering.trouble or "") and recovering._process())
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_LONGEST_START_S", 0.0)
        with pytest.raises(DatabaseNotStarted, match=r"is still starting .* and goes on: LOG:  redo in progress"):
            await launching
    await asyncio.to_thread(recovering.halt)
    assert recovering._process() == process, "asked to end, and left alone"

    recovering.trouble = None
    launched = asyncio.create_task(asyncio.to_thread(recovering.launch))
    await until(lambda: recovering.trouble)
    assert not launched.done()
    process.send_signal(signal.SIGUSR1)
    assert (await launched).startswith("postgresql://postgres@/postgres?host=")
    assert recovering._process() == process
    assert recovering.trouble is None


@pytest.mark.usefixtures("quick_initdb")
async def test_what_goes_wrong_while_it_is_kept_up_is_told_and_does_not_end_that(
    started: list[EmbeddedPostgres],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(embedded, "_CHECK_S", 0.01)
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    await server.start()

    def broken() -> list[str]:
        raise PermissionError(13, "Permission denied", "postmaster.pid")

    with monkeypatch.context() as patch:
        patch.setattr(server, "_pid_file", broken)
        trouble = await until(lambda: server.trouble)
        assert "Permission denied" in trouble
    assert "trying again: [Errno 13] Permission denied" in caplog.text
    await until(lambda: server.trouble is None)
    await server.stop()
    assert not server.runs


@pytest.mark.usefixtures("quick_initdb")
def test_a_pid_file_that_is_cut_short_is_told(
    started: list[EmbeddedPostgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    started.append(server)
    server.launch()
    monkeypatch.setattr(server, "_answers", lambda: True)
    with monkeypatch.context() as patch:
        patch.setattr(server, "_pid_file", lambda: ["1", "2"])
        with pytest.raises(DatabaseNotStarted, match=r"postmaster\.pid is cut short"):
            server.launch()


@pytest.mark.usefixtures("quick_initdb")
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


@pytest.mark.usefixtures("quick_initdb")
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
    with only_service(tmp_path):
        pass
    assert "No locks available" in caplog.text
