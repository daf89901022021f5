"""What a database has to be before AdaDim uses it. Asked before anything is written there, by `serve` and `doctor`.

Owns the questions and what their answers mean. What connecting itself meets is connection.py's.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import asyncpg
from alembic.script import ScriptDirectory

from service.database.address import Address
from service.database.connection import CONNECT_ERRORS, Trouble, connect, trouble
from service.database.engine import alembic_config
from service.database.tables import Base

_OLDEST = 13
"""The first PostgreSQL that makes random UUIDs without an extension."""
_CORE = {"experiments", "attempts", "trials"}
"""Tables that every version of AdaDim has had."""
_ROUNDS = 3
_PATIENCE_S = 10.0
_OWN = (
    "give AdaDim a database of its own (CREATE DATABASE adadim), or a schema (CREATE SCHEMA adadim, and "
    "?options=-csearch_path%3Dadadim in DATABASE_URL)"
)

_SERVER = """
    SELECT version() AS version, current_setting('server_version_num')::int / 10000 AS major,
           current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,
           current_setting('transaction_read_only') = 'on' AS read_only, current_user AS me,
           current_setting('search_path') AS path, current_schema() AS home,
           has_schema_privilege(current_schema(), 'CREATE') AS may_create
"""
# What extensions brought is nobody's table. What a search path shows of another schema is Alembic's mark only.
_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, pg_has_role(c.relowner, 'USAGE') AS mine,
           has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') AS usable
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (n.nspname = current_schema() OR (c.relname = 'alembic_version' AND pg_table_is_visible(c.oid)))
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname LIMIT 1000
"""


class DatabaseUnusable(Exception):  # noqa: N818 - a state, and what to do about it
    """A database that cannot be used, with the reason. `trouble.may_pass`: as it is, it may be usable later."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


@dataclass(frozen=True)
class Facts:
    """A database that can be used."""

    version: str
    """Of PostgreSQL."""
    revision: str | None
    """Of the schema; None: there is none yet."""
    newest: str
    """The revision that this version of AdaDim makes."""


async def check_database(address: Address) -> Facts:
    """Ask a database whether it is one that AdaDim can use.

    Raises:
        DatabaseUnusable: it is not, or does not answer.
    """
    connections: list[asyncpg.Connection] = []
    try:
        connections.append(await connect(address))
        connections.append(await connect(address))
        async with asyncio.timeout(address.timeout_s or _PATIENCE_S):
            await _keeps_sessions(address, *connections)
            return await _facts(address, connections[0])
    except CONNECT_ERRORS as error:
        found = trouble(error, address)
        if isinstance(error, TimeoutError) and connections:
            found = Trouble(
                f"the database at {address.place} lets us in, but does not answer",
                "a pooler may have no connection left: a service takes up to 30",
                may_pass=True,
            )
        raise DatabaseUnusable(found) from None
    finally:
        for connection in connections:
            connection.terminate()


async def _keeps_sessions(address: Address, one: asyncpg.Connection, other: asyncpg.Connection) -> None:
    """Each connection has a process of the server to itself, always the same: no pooler lends it to others between."""
    processes: tuple[set[int], set[int]] = set(), set()
    try:
        for _ in range(_ROUNDS):
            for connection, found in zip((one, other), processes, strict=True):
                async with connection.transaction():  # within one, the most frugal pooler keeps to one process
                    found.add(await connection.fetchval("SELECT pg_backend_pid()"))
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        processes[0].clear()  # a statement that was prepared in this session, and is not there or was there before
    except asyncpg.PostgresError as error:
        if "statement pooling" not in str(error):
            raise
        processes[0].clear()
    if len(processes[0]) != 1 or len(processes[1]) != 1 or processes[0] & processes[1]:
        raise DatabaseUnusable(
            Trouble(
                f"the database at {address.place} is behind a pooler that lends a connection for a transaction at a "
                "time; AdaDim needs sessions, for locks and notifications",
                "set pool_mode = session, or give the address of PostgreSQL itself (at Neon without -pooler, at "
                "Supabase port 5432)",
            )
        )


async def _facts(address: Address, connection: asyncpg.Connection) -> Facts:
    server = await connection.fetchrow(_SERVER)
    if (found := _server_trouble(server, address)) is not None:
        raise DatabaseUnusable(found)
    tables = await connection.fetch(_TABLES)
    revisions: list[str] = []
    if any(table["name"] == "alembic_version" and table["usable"] for table in tables):
        revisions = [str(row[0]) for row in await connection.fetch("SELECT * FROM alembic_version")]
    scripts = ScriptDirectory.from_config(alembic_config())
    newest = str(scripts.get_current_head())
    known = {script.revision for script in scripts.walk_revisions()}
    if (found := _schema_trouble(server, tables, revisions, known, newest, address)) is not None:
        raise DatabaseUnusable(found)
    version = re.match(r"\S+ (\S+)", server["version"])
    return Facts(version[1] if version else str(server["major"]), revisions[0] if revisions else None, newest)


def _server_trouble(server: Any, address: Address) -> Trouble | None:
    place = address.place
    if not server["version"].startswith("PostgreSQL "):
        name = " ".join(server["version"].split()[:2])
        return Trouble(f"the database at {place} is {name}, not PostgreSQL", "AdaDim needs PostgreSQL itself")
    if server["major"] < _OLDEST:
        return Trouble(f"the database at {place} is PostgreSQL {server['major']}", f"AdaDim needs {_OLDEST} or later")
    if server["encoding"] != "UTF8":
        return Trouble(
            f"the database at {place} stores text as {server['encoding']}",
            "AdaDim needs UTF8: CREATE DATABASE adadim ENCODING 'UTF8' TEMPLATE template0",
        )
    if server["standby"]:
        remedy = "give the primary's address, or several hosts with target_session_attrs=read-write"
        return Trouble(f"the database at {place} is a standby, which takes no changes", remedy)
    if server["read_only"]:
        remedy = "ALTER DATABASE or ROLE ... RESET default_transaction_read_only, or use another one"
        return Trouble(f"the database at {place} is read-only for {server['me']}", remedy)
    if server["home"] is None:
        return Trouble(
            f"the database at {place} has no schema of search_path ({server['path']}) that is open to {server['me']}",
            f"CREATE SCHEMA, or GRANT USAGE, CREATE ON SCHEMA ... TO {server['me']}",
        )
    return None


def _schema_trouble(
    server: Any, tables: list[Any], revisions: list[str], known: set[str], newest: str, address: Address
) -> Trouble | None:
    """What is wrong with the tables that are there."""
    mark = next((table for table in tables if table["name"] == "alembic_version"), None)
    home = mark["schema"] if mark is not None else server["home"]
    names = {table["name"] for table in tables if table["schema"] == home}
    ours = mark is not None and names >= _CORE
    if (names and not ours) or (ours and revisions and not re.fullmatch(r"\d{4}", revisions[0])):
        shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        return Trouble(f"the database at {address.place} holds the tables of something else ({home}: {shown})", _OWN)
    if ours and revisions and revisions[0] not in known:
        return Trouble(
            f"the schema ({revisions[0]}) of the database at {address.place} is newer than this version of AdaDim "
            f"knows ({newest})",
            "install the version that wrote it, or a later one",
        )
    current = {*Base.metadata.tables, "alembic_version"}
    mine = [table for table in tables if table["schema"] == home and table["name"] in current]
    if revisions != [newest]:
        if not server["may_create"]:
            remedy = f"make {server['me']} the owner of the database, or GRANT USAGE, CREATE ON SCHEMA {server['home']}"
            return Trouble(
                f"{server['me']} may not make tables in schema {server['home']} of the database at {address.place}",
                f"{remedy} TO {server['me']}",
            )
        lacking = [table["name"] for table in mine if not table["mine"]]
    else:
        lacking = [table["name"] for table in mine if not table["usable"]]
    if lacking:
        shown = ", ".join(lacking[:3])
        return Trouble(
            f"{server['me']} lacks rights on AdaDim's tables in the database at {address.place} ({shown})",
            "use the user who made them, or make this one their owner",
        )
    return None
