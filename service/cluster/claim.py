"""Who may use a database: services that share a cluster, or one service with a local cluster of its own.

A service with a local Ray head would otherwise run jobs that the others cannot see, and take theirs for lost. The
claim is a PostgreSQL advisory lock held by a connection of its own: it ends with the process, however that ends.
"""

import asyncio
import logging

import asyncpg

from service.database.address import read_address
from service.database.connection import CONNECT_ERRORS, connect

logger = logging.getLogger(__name__)

_LOCK = 0x_ADAD_1_0003
_PATIENCE_S = 5.0
"""PostgreSQL takes a moment to notice that a service was killed."""
_CHECK_S = 5.0


class DatabaseInUse(Exception):  # noqa: N818 - a state, and what to do about it
    """Another service uses the database in a way that excludes this one. The text says what to do."""


class Claim:
    """The claim of one service on its database. Services with RAY_ADDRESS share it, one without has it alone."""

    def __init__(self, database_url: str, *, shared: bool) -> None:
        self._address = read_address(database_url)
        self._function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Take the claim, and keep it until `release`. Raises DatabaseInUse, or what connecting raises."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while not await self._try():
            if asyncio.get_running_loop().time() >= deadline:
                raise DatabaseInUse(
                    "another service uses this database with another Ray cluster; services share a database only "
                    "when all of them have the same RAY_ADDRESS"
                )
            await asyncio.sleep(0.2)
        self._task = asyncio.create_task(self._keep(), name="claim")

    async def release(self) -> None:
        """Let others use the database."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._close()

    async def _try(self) -> bool:
        self._connection = await connect(self._address)
        taken: bool = await self._connection.fetchval(f"SELECT {self._function}($1)", _LOCK)
        if not taken:
            self._close()
        return taken

    async def _keep(self) -> None:
        """Take it again after the database was away. Whoever came in between is told to the log, not fought."""
        while True:
            await asyncio.sleep(_CHECK_S)
            try:
                if self._connection is not None and not self._connection.is_closed():
                    await self._connection.execute("SELECT 1", timeout=5)
                elif not await self._try():
                    logger.error("another service claims this database; stop one of the two")
            except CONNECT_ERRORS:
                self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
