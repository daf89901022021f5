"""Commands that work on the service's database itself, with the settings that `adadim serve` would use."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from adadim.client import ClientError
from service.auth.admin_token import replace_admin_token
from service.database.check import check_database
from service.database.embedded import borrowed
from service.database.engine import Database
from service.settings import Settings
from service.starting import CANNOT_START, why_not


@contextlib.asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[Database]:
    """The database of DATABASE_URL, or the embedded one, which runs as long as the block if it does not run.

    It is one that AdaDim can use; whether it is empty, or of another version, is the caller's to ask.
    """
    async with contextlib.AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            url = await stack.enter_async_context(borrowed(settings.state_dir / "postgres"))
        database = Database(url)
        stack.push_async_callback(database.close)
        await check_database(database.address)
        yield database


def replace_token(settings: Settings) -> Path:
    """Replace the admin token of the database. Returns the file with the new one; raises ClientError."""
    path = settings.state_dir / "token"
    if settings.database_url is None and not (settings.state_dir / "postgres").exists():
        raise ClientError(
            f"no database in {settings.state_dir}: set DATABASE_URL or ADADIM_STATE_DIR as the service has"
        )
    os.umask(0o077)
    try:
        asyncio.run(_replace(settings, path))
    except CANNOT_START as error:
        raise ClientError(why_not(error)) from None
    return path


async def _replace(settings: Settings, path: Path) -> None:
    async with database_of(settings) as database:
        facts = await check_database(database.address)
        if facts.revision != facts.newest:
            raise ClientError(
                f"the schema of the database at {database.address.place} is {facts.revision or 'not there yet'}, this "
                f"version's is {facts.newest}: `adadim serve` brings it there"
            )
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await replace_admin_token(database, path)
