"""The log of an attempt's driver: streamed through from Ray while its job is there, kept in the database afterwards.

Kept are its last MAX_CHARS characters, so that a chatty run cannot fill the database. Positions count characters of
cleaned text from the log's very start, live and kept alike: a reader goes over from one to the other without a seam.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from adadim_core.storage import layout
from adadim_core.storage.reading import read_end
from service.attempts import repository as attempts
from service.cluster.jobs import ClusterUnavailable
from service.context import Context
from service.database.tables import Attempt
from service.experiments import artefacts
from service.experiments import repository as experiment_rows
from service.experiments.states import EXPERIMENT_ENDED
from service.logs import repository
from service.logs.text import Cleaner

logger = logging.getLogger(__name__)

MAX_CHARS = 1_000_000
_MAX_COPY_BYTES = 4 * MAX_CHARS
_FOLLOW_INTERVAL_S = 1.0
_KEEP_FOR_S = 25.0
"""A log that takes longer is kept as far as it came: the next attempt may wait for this."""


async def keep(context: Context, attempt: Attempt) -> None:
    """Keep the end of the log of an attempt whose job is over. Raises ClusterUnavailable."""
    cleaner, pieces, size, start = Cleaner(), deque[str](), 0, 0
    whole = False
    try:
        async with asyncio.timeout(_KEEP_FOR_S), aclosing(context.jobs.log(attempt.submission_id)) as found:
            async for piece in found:
                pieces.append(cleaner.feed(piece))
                size += len(pieces[-1])
                while size - len(pieces[0]) >= MAX_CHARS:
                    size -= len(pieces[0])
                    start += len(pieces.popleft())
            whole = True
    except TimeoutError:
        logger.warning("the log of %s did not come within %.0f s", attempt.submission_id, _KEEP_FOR_S)
    text = "".join(pieces) + cleaner.feed(b"", last=True)
    # The cluster lost it, with its head or at a restart, or does not serve it: read the worker's own copy.
    if (not text or not whole) and (copy := await asyncio.to_thread(_copy, context, attempt)):
        text, start = copy, 0
    start += max(len(text) - MAX_CHARS, 0)
    if text:
        async with context.database.transaction() as session:
            await repository.keep(session, attempt.id, text[-MAX_CHARS:], start)


async def read(context: Context, experiment_id: int, *, follow: bool) -> AsyncGenerator[str]:
    """The log of the latest attempt in pieces; with `follow`, what is added to it, through later attempts too."""
    number, sent = 0, 0
    while True:
        async with context.database.transaction() as session:
            experiment = await experiment_rows.get(session, experiment_id)
            attempt = await attempts.current(session, experiment_id)
        if attempt is not None and attempt.number != number:
            number, sent = attempt.number, 0
        if attempt is not None and attempt.closed_at is not None:
            async with context.database.transaction() as session:
                log, start = await repository.kept(session, attempt.id)
            if sent < start:
                yield f"[{start - sent} characters were not kept]\n"
            if rest := log[max(sent - start, 0) :]:
                yield rest
            sent = max(sent, start + len(log))
        elif attempt is not None:
            async with aclosing(_live(context, attempt, sent, follow=follow)) as pieces:
                async for piece in pieces:
                    sent += len(piece)
                    yield piece
        ended = experiment is None or experiment.state in EXPERIMENT_ENDED
        if not follow or context.closing or (ended and (attempt is None or attempt.closed_at is not None)):
            return
        await asyncio.sleep(_FOLLOW_INTERVAL_S)


async def _live(context: Context, attempt: Attempt, skip: int, *, follow: bool) -> AsyncGenerator[str]:
    """What Ray has of a log beyond its first `skip` characters; with `follow`, until the attempt is closed."""
    cleaner = Cleaner()
    try:
        async with aclosing(context.jobs.log(attempt.submission_id, follow=follow)) as pieces:
            async for piece in pieces:
                text = cleaner.feed(piece)
                fresh, skip = text[skip:], max(skip - len(text), 0)
                if fresh:
                    yield fresh
                # Ray does not end its stream with the job: look whenever it is silent.
                if context.closing or (not piece and await _is_closed(context, attempt)):
                    return
    except ClusterUnavailable:
        return  # the caller looks again, and finds the log kept or the cluster back


async def _is_closed(context: Context, attempt: Attempt) -> bool:
    async with context.database.transaction() as session:
        current = await attempts.current(session, attempt.experiment_id)
    return current is None or current.id != attempt.id or current.closed_at is not None


def _copy(context: Context, attempt: Attempt) -> str:
    """The driver's output as its own process stored it, if the storage can be seen from here."""
    location, log = artefacts.folder(context.settings, attempt.submission_id), layout.driver_log(attempt.id)
    cleaner, text = Cleaner(), ""
    try:
        for key in (layout.earlier_log(log), log):
            text += cleaner.feed(read_end(location, key, _MAX_COPY_BYTES))
    except OSError as error:
        logger.warning("the log of %s cannot be read from the storage: %s", attempt.submission_id, error)
    return text
