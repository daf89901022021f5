"""`adadim serve` waits for a database that is not there yet, and for none that will never be."""

import asyncio
import logging
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from service_harness import until

from service.cli import serve
from service.cli.serve import ServeError
from service.cluster.ports import free_ports
from service.database.engine import Database
from service.settings import Settings
from tests.service.test_migrations import differences


async def test_a_database_that_comes_later_is_waited_for(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its name and its port are known before it listens, as when containers start together."""
    caplog.set_level(logging.INFO, logger="service.cli.serve")
    parts = urlsplit(database_url)
    socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    (port,) = free_ports(1)
    checking = asyncio.create_task(
        serve._check_database(f"postgresql://postgres@127.0.0.1:{port}{parts.path}", shared=True)
    )
    await until(
        lambda: f"waiting up to 60 s: no answer from the database at 127.0.0.1:{port}{parts.path}" in caplog.text
    )
    assert not checking.done()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(socket)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while content := await source.read(65536):
                target.write(content)
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", port)
    async with asyncio.timeout(30):
        await checking
    server.close()


async def test_a_database_that_refuses_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = database_url.replace(urlsplit(database_url).path, "/no_such_database")
    with pytest.raises(ServeError, match=r"/no_such_database is not there \(.*does not exist.*\)"):
        await serve._check_database(missing, shared=True)
    assert "waiting" not in caplog.text
    monkeypatch.setattr(serve, "_DATABASE_WAIT_S", 0.0)
    with pytest.raises(ServeError, match=r"no answer from the database at 127\.0\.0\.1:\d+/x"):
        await serve._check_database(f"postgresql://127.0.0.1:{free_ports(1)[0]}/x", shared=True)


async def test_migrate_makes_the_schema_and_needs_an_address(empty_database_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(serve.migrate, Settings(state_dir=tmp_path, database_url=empty_database_url))
    database = Database(empty_database_url)
    assert await differences(database) == []
    await database.close()
    with pytest.raises(ServeError, match="DATABASE_URL is not set"):
        serve.migrate(Settings(state_dir=tmp_path))
