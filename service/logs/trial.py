"""The log of one trial: a file its process writes into the storage, so it is there when the cluster is gone.

The worker bounds it: when `log.txt` is full it becomes `log.1.txt`, and the one before goes.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from io import BufferedReader
from pathlib import Path

from adadim_core.storage import layout
from adadim_core.storage.reading import open_regular, read_end
from service.context import Context
from service.database.tables import Trial
from service.errors import NotFoundError
from service.experiments import artefacts
from service.experiments.states import TRIAL_ENDED
from service.logs.text import Cleaner
from service.trials import repository as trials

_FOLLOW_INTERVAL_S = 0.5
_PIECE_BYTES = 256 * 1024
_MAX_BYTES = 8 * 1024 * 1024
"""Of a log that a worker did not bound, its end is read."""


async def uploaded(location: str, trial: Trial) -> str:
    """The log in an object store, which is there once the trial's process is done with it: 2 MiB at most.

    Raises NotFoundError while there is none, UnavailableError if the object store does not answer.
    """
    try:
        text = b"".join([await asyncio.to_thread(read_end, location, key, _MAX_BYTES) for key in _logs(trial)])
    except OSError as error:
        raise artefacts.away(error) from None
    if not text:
        detail = "There is no log yet: a trial's log comes into an object store when the trial ends or is interrupted."
        raise NotFoundError(detail)
    return Cleaner().feed(text, last=True)


def check_visible(location: str, trial: Trial) -> None:
    """Raise NotFoundError if a folder with the trial's log cannot be seen from here."""
    if trial.state != "pending" and not Path(location).is_dir():
        detail = (
            f"The service does not see {location}, where the log is: mount the cluster's storage there. "
            "The files of an imported run lie where it ran."
        )
        raise NotFoundError(detail)


async def read(context: Context, trial: Trial, location: str, *, follow: bool) -> AsyncGenerator[str]:
    """What the trial has written into its folder, in pieces; with `follow`, what it adds until it ends."""
    cleaner, trial_id = Cleaner(), trial.id
    earlier, current = _logs(trial)
    file = await asyncio.to_thread(_open, location, earlier) or await asyncio.to_thread(_open, location, current)
    try:
        while True:
            piece = await asyncio.to_thread(file.read, _PIECE_BYTES) if file is not None else b""
            if text := cleaner.feed(piece):
                yield text
            if piece:
                continue
            following = await asyncio.to_thread(_next, location, current, file)
            if following is not None:
                file = following
            elif not follow or context.closing or await _is_over(context, trial_id):
                return
            else:
                await asyncio.sleep(_FOLLOW_INTERVAL_S)
    finally:
        if file is not None:
            file.close()


def _logs(trial: Trial) -> tuple[str, str]:
    """Names of the log that was full, and of the one that is written now."""
    current = layout.trial_log(trial.number)
    return layout.earlier_log(current), current


def _open(location: str, key: str) -> BufferedReader | None:
    """A log in the folder, at its beginning, or where its last _MAX_BYTES begin."""
    try:
        file = open_regular(Path(location), key)
        file.seek(max(os.fstat(file.fileno()).st_size - _MAX_BYTES, 0))
    except OSError:
        return None
    return file


def _next(location: str, key: str, read: BufferedReader | None) -> BufferedReader | None:
    """The file that follows the one read to its end, if there is one."""
    current = _open(location, key)
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
    return trial is None or trial.state in TRIAL_ENDED
