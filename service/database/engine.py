"""The connection pool, transactions and migrations of one PostgreSQL database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from asyncpg.exceptions import InternalClientError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import InterfaceError, InvalidatePoolError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine

from service.database.address import read_address
from service.database.connection import CONNECT_ERRORS, connect
from service.telemetry import tracing

_DIALECT = "postgresql+asyncpg://"  # where to is `connect`'s: it knows more parameters, and no text has the password
_SESSION = {"jit": "off"}
_MIGRATIONS = Path(__file__).parent / "migrations"
_CONNECTIONS = 20
"""Of transactions, at most."""
_AUTOCOMMIT_CONNECTIONS = 8
"""At most, beside those of transactions."""
_FOR_REPORTS, _AUTOCOMMIT_FOR_REPORTS = 8, 1
"""Of each, so many are taken by nobody else: a worker does not wait for whatever users ask."""
_PATIENCE_S = 30.0
"""So long a connection is waited for."""
_MIGRATION_LOCK = 0x_ADAD_1_0001  # two replicas that start together migrate one after the other

# SQLAlchemy lets the driver's own errors through while it connects: a server that starts or shuts down answers so.
DATABASE_ERRORS = (*CONNECT_ERRORS, SQLAlchemyError)
"""What a statement raises when the database is away, or refuses it: `is_away` tells which.

Of a database that is opened for the first time check.py says more, and whether it is worth waiting for.
"""
_AWAY = (
    *(OSError, TimeoutError, NoConnectionFree, OperationalError, InterfaceError),
    *(asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, InternalClientError),
)


def is_away(error: BaseException) -> bool:
    """Whether an error of DATABASE_ERRORS says that the database does not answer now, and may later."""
    if isinstance(error, _AWAY) or getattr(error, "connection_invalidated", False):
        return True
    # Connection lost, resources used up, shutting down or starting.
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")[:2] in ("08", "53", "57")


class Database:
    """A pool of connections. `transaction()` is the only way in; no network call belongs inside one."""

    def __init__(self, url: str) -> None:
        self.address = read_address(url)
        self._engine = create_async_engine(
            _DIALECT,
            pool_size=_CONNECTIONS // 2,
            max_overflow=_CONNECTIONS // 2,
            pool_timeout=_PATIENCE_S,
            async_creator=lambda: connect(self.address, _SESSION),
        )
        self._autocommit = create_async_engine(
            _DIALECT,
            isolation_level="AUTOCOMMIT",
            pool_size=2,
            max_overflow=_AUTOCOMMIT_CONNECTIONS - 2,
            pool_timeout=_PATIENCE_S,
            # Planning them for the lengths of their arrays, as PostgreSQL would each time, costs more than doing them.
            async_creator=lambda: connect(self.address, {**_SESSION, "plan_cache_mode": "force_generic_plan"}),
        )
        for engine in (self._engine, self._autocommit):
            event.listen(engine.sync_engine, "checkout", _refuse_closed)
            tracing.trace_statements(engine.sync_engine)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._others = asyncio.Semaphore(_CONNECTIONS - _FOR_REPORTS)
        self._autocommit_others = asyncio.Semaphore(_AUTOCOMMIT_CONNECTIONS - _AUTOCOMMIT_FOR_REPORTS)

    @asynccontextmanager
    async def transaction(self, *, of_report: bool = False) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends and rolls back when it raises.

        `of_report`: what a worker's report needs, for which connections are kept.
        """
        async with _place(self._others, free=of_report), self._sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A session whose statements all see the database as it was at the first.

        What it changes must not have been changed by others since: then it fails.
        """
        async with _place(self._others), self._sessions.begin() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @asynccontextmanager
    async def autocommit(self, *, of_report: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement is a transaction of its own: without the round trips around it.

        For few statements, asked often: they are planned once. `of_report` as of `transaction`.
        """
        async with _place(self._autocommit_others, free=of_report), self._autocommit.connect() as connection:
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection, for statements without the ORM."""
        async with _place(self._others), self._engine.connect() as connection:
            yield connection

    async def migrate(self) -> None:
        """Bring the schema to the newest version. Safe when several replicas start at once."""
        async with self.migrating() as connection:
            await connection.run_sync(upgrade)

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, while which nobody else changes the schema."""
        async with self._engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            yield connection

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Raise if the database does not answer in time."""
        async with asyncio.timeout(timeout_s), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
        await self._autocommit.dispose()


@asynccontextmanager
async def _place(places: asyncio.Semaphore, *, free: bool = False) -> AsyncIterator[None]:
    """One of the places, waited for; none where it is free. Raises NoConnectionFree."""
    if free:
        yield
        return
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await places.acquire()
    except TimeoutError:
        raise NoConnectionFree(f"no connection was free within {_PATIENCE_S:g} s") from None
    try:
        yield
    finally:
        places.release()


def _refuse_closed(connection: Any, *_: object) -> None:
    """A server that ended a connection said so on its socket: asking it (pool_pre_ping) would cost a round trip each.

    Raises what makes the pool open a new one, and drop all that are as old.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def alembic_config() -> Config:
    """Alembic's configuration: there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision, in the connection's transaction."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
