"""A backup of everything the database holds, and its restoration as an installation of its own.

Owns what a restored copy may not do: its key is new, so that it neither stops the original's jobs nor touches its
folders; its attempts are over; what had not ended is paused, and goes on when somebody resumes it. Files of the storage
are listed, not copied: that is for whoever copies disks and buckets. The archive's form is archive.py's.
"""

import asyncio
import errno
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import asyncpg
from alembic.script import ScriptDirectory
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from adadim_core.storage.runs import rename_run, sizes_of_runs
from adadim_core.version import VERSION
from service.backups import repository
from service.backups.archive import ArchiveError, Manifest, Reader, Table, Writer, storage_line
from service.database.engine import Database, alembic_config, upgrade
from service.database.tables import Attempt, Experiment, Installation
from service.dispatch.service import apply_stopped
from service.experiments import artefacts
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_ENDED

_BY = "restore"
_OVER = "restored from a backup"


class BackupError(Exception):
    """It cannot be backed up, or restored, here. The text says why and what to do."""


@dataclass(frozen=True)
class Restored:
    """What a restoration came to."""

    manifest: Manifest
    key: str
    paused: int
    """Experiments that had not ended."""


async def back_up(database: Database, storage: str, path: Path) -> Manifest:
    """Write a backup of the database as it is at one moment, with a list of the storage's files.

    Raises:
        BackupError: the schema is not this version's.
        FileExistsError: there is such a file.
        OSError: it cannot be written, or the storage does not answer.
    """
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with _new_file(path, part) as file:
            with Writer(file) as writer:
                manifest = await _write(database, storage, writer)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return manifest


def _new_file(path: Path, part: Path) -> IO[bytes]:
    if path.exists():
        raise FileExistsError(errno.EEXIST, "it is there already; name another file", str(path))
    file = part.open("xb")
    part.chmod(0o600)  # hashes of tokens, specs and logs
    return file


async def _write(database: Database, storage: str, writer: Writer) -> Manifest:
    async with database.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        tables, revision, key = await _tables(connection, writer)
    # After the database: a file that it speaks of is there by now, unless somebody removed it.
    listing = writer.storage()
    files = await asyncio.to_thread(sizes_of_runs, storage, artefacts.prefix(key))
    for name in sorted(files):
        await listing.write(storage_line(name, files[name]))
    manifest = Manifest(
        format=1,
        adadim=VERSION,
        revision=revision,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        installation=key,
        tables=tables,
        storage=listing.end(),
        storage_files=len(files),
    )
    writer.finish(manifest)
    return manifest


async def _tables(connection: AsyncConnection, writer: Writer) -> tuple[list[Table], str, str]:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    revision = await repository.revision(connection)
    if revision is None or revision != head:
        raise BackupError(
            f"the database's schema is {revision or 'not there'}, this version's is {head}: back it up with the "
            "version that uses it, or start `adadim serve`, which migrates it"
        )
    found, tables = await repository.columns(connection), []
    for name in repository.in_order(list(found)):
        member = writer.table(name)
        rows = await repository.copy_out(connection, name, list(found[name]), member.write)
        numbers = {
            column: await repository.last_number(connection, name, column)
            for column, identity in found[name].items()
            if identity
        }
        content = member.end()
        tables.append(
            Table(
                name=name,
                columns=list(found[name]),
                rows=rows,
                sequences={column: number for column, number in numbers.items() if number is not None},
                bytes=content.bytes,
                sha256=content.sha256,
            )
        )
    key = (await connection.execute(select(Installation.key))).scalar_one()
    return tables, revision, key


async def restore(database: Database, reader: Reader) -> Restored:
    """Fill an empty database from a backup: all of it, or nothing.

    Raises:
        ArchiveError: the archive is not what it says it is. Nothing is changed.
        BackupError: the database is not empty, or the archive is a later version's.
    """
    manifest = reader.manifest
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if manifest.revision not in known:
        raise BackupError(
            f"the backup was made by adadim {manifest.adadim}, whose schema ({manifest.revision}) this version does "
            "not know: restore it with that version, or a later one"
        )
    async with database.migrating() as connection:
        if await repository.columns(connection) or await repository.revision(connection) is not None:
            raise BackupError(
                "the database is not empty; name a new one with DATABASE_URL, or another ADADIM_STATE_DIR"
            )
        await connection.run_sync(upgrade, manifest.revision)
        await _fill(connection, reader)
        await connection.run_sync(upgrade, "head")
        async with AsyncSession(bind=connection, expire_on_commit=False) as session:
            key = secrets.token_hex(4)
            await session.execute(update(Installation).values(key=key))
            paused = await _lay_to_rest(session)
            await session.commit()  # to the connection's transaction
    return Restored(manifest, key, paused)


async def _fill(connection: AsyncConnection, reader: Reader) -> None:
    manifest = reader.manifest
    there = await repository.columns(connection)
    if {table.name: sorted(table.columns) for table in manifest.tables} != {
        name: sorted(found) for name, found in there.items()
    }:
        raise ArchiveError("the backup's tables are not those of its schema")
    await repository.empty(connection, list(there))
    for table in manifest.tables:
        try:
            rows = await repository.copy_in(connection, table.name, table.columns, reader.rows(table))
        except (asyncpg.PostgresError, DBAPIError) as error:
            words = str(error).splitlines()[0]
            raise ArchiveError(f"the backup's table {table.name} does not fit its schema ({words})") from None
        if rows != table.rows:
            raise ArchiveError(f"the backup's table {table.name} has {rows} rows, not {table.rows}")
        for column, number in table.sequences.items():
            if not there[table.name].get(column):
                raise ArchiveError(f"the backup's {table.name}.{column} is no identity")
            await repository.set_last_number(connection, table.name, column, number)
    for _ in reader.storage_files():
        pass  # for its checksum, before anything is believed


async def _lay_to_rest(session: AsyncSession) -> int:
    """End every attempt, and pause what had not ended: its jobs are the original's. Returns how many were paused."""
    over = {"closed_at": func.coalesce(Attempt.closed_at, func.now())}
    ended = {"state": "interrupted", "error": _OVER, "ended_at": func.now()}
    await session.execute(update(Attempt).where(Attempt.ended_at.is_(None)).values(ended))
    await session.execute(update(Attempt).where(Attempt.closed_at.is_(None)).values(over))
    unfinished = Experiment.state.not_in([*EXPERIMENT_ENDED, "importing", "paused"])
    paused = 0
    for experiment in await session.scalars(select(Experiment).where(unfinished).order_by(Experiment.id)):
        experiment.lock_token = experiment.lock_expires_at = None
        if experiment.state == "deleting":  # with no attempt there is no job to ask the cluster about
            await session.execute(delete(Attempt).where(Attempt.experiment_id == experiment.id))
        elif experiment.state == "cancelling":
            await apply_stopped(session, experiment, by=_BY)
        else:
            paused += 1
            experiment.desired_state = "pause"
            if experiment.state in ("starting", "running"):
                await change_state(session, experiment, "pausing", reason=_OVER, by=_BY)
            experiment.state_reason = _OVER
            await apply_stopped(session, experiment, by=_BY)
    return paused


async def take_storage(storage: str, reader: Reader, restored: Restored) -> list[str]:
    """Give the original's folders in this storage the names that the restored copy looks for.

    Args:
        storage: Where they are. The original must not use it any more, or this is a copy of its.

    Returns:
        Files that the backup lists and the storage lacks, or has less of.

    Raises:
        OSError: a folder could not be renamed; those before it are.
    """
    old, new = artefacts.prefix(restored.manifest.installation), artefacts.prefix(restored.key)
    there = await asyncio.to_thread(sizes_of_runs, storage, old)
    missing = [name for name, size in reader.storage_files() if there.get(name, -1) < size]
    for name in sorted({name.partition("/")[0] for name in there}):
        await asyncio.to_thread(rename_run, storage, name, new + name.removeprefix(old))
    return missing
