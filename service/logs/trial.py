"""The log of one trial: a file its process writes into the storage, so it is there when the cluster is gone.

The worker bounds it: when `log.txt` is full it becomes `log.1.txt`, and the one before goes.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from io import BufferedReader
from pathlib import Path

from service.context import Context
from service.database.tables import Trial
from service.errors import NotFoundError
from service.experiments import artefacts
from service.logs.text import Cleaner
from service.trials import repository as trials

_FOLLOW_INTERVAL_S = 0.5
_PIECE_BYTES = 256 * 1024


async def uploaded(location: str, trial: Trial) -> str:
    """The log in an object store, which is there once the trial's process is done with it: 2 MiB at most.

    Raises NotFoundError while there is none, UnavailableError if the object store does not answer.
    """
    try:
        names = [f"trials/{trial.number:04d}/{name}" for name in ("log.1.txt", "log.txt")]
        text = b"".join([await asyncio.to_thread(_whole, location, name) for name in names])
    except OSError as error:
        raise artefacts.away(error) from None
    if not text:
        detail = "There is no log yet: a trial's log comes into an object store when the trial ends or is interrupted."
        raise NotFoundError(detail)
    return Cleaner().feed(text, last=True)


def locate(location: str, trial: Trial) -> Path:
    """The log file in a folder. Raises NotFoundError if the storage cannot be seen from here."""
    experiment = Path(location)
    if trial.state != "pending" and not experiment.is_dir():
        detail = (
            f"The service does not see {experiment}, where the log is: mount the cluster's storage there. "
            "The files of an imported run lie where it ran."
        )
        raise NotFoundError(detail)
    return experiment / "trials" / f"{trial.number:04d}" / "log.txt"


async def read(context: Context, trial_id: int, path: Path, *, follow: bool) -> AsyncGenerator[str]:
    """What the trial has written, in pieces; with `follow`, what it adds until it ends."""
    cleaner = Cleaner()
    file = await asyncio.to_thread(_open, path.with_name("log.1.txt")) or await asyncio.to_thread(_open, path)
    try:
        while True:
            piece = await asyncio.to_thread(file.read, _PIECE_BYTES) if file is not None else b""
            if text := cleaner.feed(piece):
                yield text
            if piece:
                continue
            following = await asyncio.to_thread(_next, path, file)
            if following is not None:
                file = following
            elif not follow or context.closing or await _is_over(context, trial_id):
                return
            else:
                await asyncio.sleep(_FOLLOW_INTERVAL_S)
    finally:
        if file is not None:
            file.close()


def _whole(location: str, name: str) -> bytes:
    try:
        file, _ = artefacts.open_file(location, name)
    except FileNotFoundError:
        return b""
    with file:
        return bytes(file.read())


def _open(path: Path) -> BufferedReader | None:
    try:
        return path.open("rb")
    except OSError:
        return None


def _next(path: Path, read: BufferedReader | None) -> BufferedReader | None:
    """The file that follows the one read to its end, if there is one."""
    current = _open(path)
    if current is None or read is None:
        return current
    if _identity(current) == _identity(read) or read.peek(1):
        current.close()
        return None
    read.close()
    return current


def _identity(file: BufferedReader) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


async def _is_over(context: Context, trial_id: int) -> bool:
    async with context.database.transaction() as session:
        trial = await trials.get(session, trial_id)
    return trial is None or trial.state in trials.ENDED
