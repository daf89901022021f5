"""Statements of backup and restore: which tables there are, their rows as a stream, last numbers of identities."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.tables import Base

_COLUMNS = """
    SELECT table_name, column_name, is_identity = 'YES' AS identity FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name <> 'alembic_version' AND is_generated = 'NEVER'
    ORDER BY table_name, ordinal_position
"""


async def revision(connection: AsyncConnection) -> str | None:
    """Of the schema that is there; None: there is none."""
    there = "SELECT to_regclass('alembic_version') IS NOT NULL"
    if not (await connection.execute(text(there))).scalar_one():
        return None
    found: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    return found


async def columns(connection: AsyncConnection) -> dict[str, dict[str, bool]]:
    """Every table's columns, with whether each is an identity."""
    found: dict[str, dict[str, bool]] = {}
    for table, column, identity in await connection.execute(text(_COLUMNS)):
        found.setdefault(table, {})[column] = identity
    return found


def in_order(tables: Sequence[str]) -> list[str]:
    """Tables of the present schema, each after those that its rows refer to."""
    order = [table.name for table in Base.metadata.sorted_tables]
    return sorted(tables, key=order.index)


async def last_number(connection: AsyncConnection, table: str, column: str) -> int | None:
    """The last number that an identity has given; None before the first."""
    sequence = (
        await connection.execute(text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": table, "c": column})
    ).scalar_one()
    last, called = (await connection.execute(text(f"SELECT last_value, is_called FROM {sequence}"))).one()  # noqa: S608
    return int(last) if called else None


async def set_last_number(connection: AsyncConnection, table: str, column: str, number: int) -> None:
    await connection.execute(
        text("SELECT setval(pg_get_serial_sequence(:t, :c), :n)"), {"t": table, "c": column, "n": number}
    )


async def empty(connection: AsyncConnection, tables: Sequence[str]) -> None:
    """Remove what migrations have put into tables of a new database."""
    names = ", ".join(f'"{table}"' for table in tables)
    await connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))


async def copy_out(
    connection: AsyncConnection, table: str, columns: Sequence[str], write: Callable[[bytes], Awaitable[None]]
) -> int:
    """Write a table's rows. Returns how many there were."""
    status = await (await _driver(connection)).copy_from_table(table, columns=columns, output=write, format="binary")
    return int(status.split()[-1])


async def copy_in(connection: AsyncConnection, table: str, columns: Sequence[str], rows: AsyncIterator[bytes]) -> int:
    """Put rows into a table. Returns how many there were. Raises asyncpg.PostgresError if they are none of its rows."""
    status = await (await _driver(connection)).copy_to_table(table, columns=columns, source=rows, format="binary")
    return int(status.split()[-1])


async def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    raw: Any = await connection.get_raw_connection()
    return raw.driver_connection
