"""What `adadim backup` and `adadim restore` do: the database that `serve` would use, and their account in lines."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from adadim.client import ClientError
from adadim_core.storage.address import shown
from service.backups.archive import ArchiveError, Manifest, Reader
from service.backups.service import BackupError, Restored, back_up, restore, take_storage
from service.cli.local_database import database_of
from service.cli.serve import only_service
from service.settings import Settings
from service.starting import CANNOT_START, why_not

_SHOWN = 5


def run_backup(settings: Settings, file: Path) -> list[str]:
    """Back up into a file. Returns what to say of it; raises ClientError or OSError."""
    with _told():
        return [f"{file}: {_content(asyncio.run(_back_up(settings, file)))}"]


def run_restore(settings: Settings, file: Path, *, take: bool) -> list[str]:
    """Restore from a file. Returns what to say of it; raises ClientError or OSError."""
    with _told():
        restored, missing = asyncio.run(_restore(settings, file, take=take))
    said = [f"restored {_content(restored.manifest)}"]
    if restored.paused:
        said.append(f"{restored.paused} had not ended and are paused: `adadim resume` goes on")
    if restored.manifest.storage_files and not take:
        said.append(
            "encoders, logs and checkpoints are not in it: in a copy of the original's storage, rename the folders "
            f"adadim-{restored.manifest.installation}-* to adadim-{restored.key}-*"
        )
    if missing:
        more = " ..." if len(missing) > _SHOWN else ""
        place = shown(settings.storage_root)
        said.append(f"{len(missing)} files of the backup are not in {place}: {', '.join(missing[:_SHOWN])}{more}")
    return said


async def _back_up(settings: Settings, file: Path) -> Manifest:
    async with database_of(settings) as database:
        return await back_up(database, settings.storage_root, file)


async def _restore(settings: Settings, file: Path, *, take: bool) -> tuple[Restored, list[str]]:
    with Reader(file) as reader:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with only_service(settings.state_dir):
            async with database_of(settings) as database:
                restored = await restore(database, reader)
            missing = await take_storage(settings.storage_root, reader, restored) if take else []
    return restored, missing


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What keeps a backup from being made or restored, in one line."""
    try:
        yield
    except (ArchiveError, BackupError) as error:
        raise ClientError(str(error)) from None
    except CANNOT_START as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise ClientError(why_not(error)) from None


def _content(manifest: Manifest) -> str:
    rows = {table.name: table.rows for table in manifest.tables}
    return (
        f"{rows.get('experiments', 0)} experiments with {rows.get('trials', 0)} trials, of {manifest.taken_at}; "
        f"{manifest.storage_files} files of the storage are listed"
    )
