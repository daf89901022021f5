"""Reads every point of an experiment, or its trials, from one snapshot and hands them on as a file, in bounded memory.

A snapshot holds a connection and keeps PostgreSQL from cleaning up, so the number of exports at once and the time a
client may not read are both bounded.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Literal

import numpy as np
import pyarrow as pa
from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context
from service.database.tables import Experiment, Trial
from service.experiments import service as experiments
from service.exports.formats import Format
from service.exports.parameters import parameter_table
from service.exports.trials import best_values, trial_table
from service.metrics import reading, repository
from service.metrics.answers import arrow_columns
from service.metrics.points import Points
from service.shares import Shares
from service.trials import repository as trials

under_way = Shares("exports", 4, each=2)
_ROWS = 128 * 1024
"""Rows of a piece, and of a Parquet row group, at least: series may be short."""
_PATIENCE_S = 60.0
"""A client that reads nothing for this long is disconnected."""
_PIECES_AHEAD = 2

Rows = Literal["points", "trials"]
"""What a file has one row of."""
_POINT_COLUMNS = [
    ("trial", pa.int32()),
    ("metric", pa.string()),
    ("step", pa.int64()),
    ("epoch", pa.float32()),
    ("time", pa.float64()),
    ("value", pa.float64()),
]
"""The first columns of a file of points; what its trial has set comes after them."""


class Aborted(Exception):  # noqa: N818 - what happened to the file
    """The file is cut off, so that the client sees a broken transfer and not a short file."""


async def stream(context: Context, experiment_id: int, rows: Rows, form: Format) -> AsyncIterator[bytes]:
    """The file in pieces.

    Raises Aborted where it cannot be read to its end.
    """
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
    writer = asyncio.create_task(_write(context, experiment_id, rows, form, pieces))
    coming = asyncio.create_task(pieces.get())
    try:
        while True:
            await asyncio.wait({coming, writer}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done() and writer.done() and writer.exception() is not None:
                raise Aborted(f"the export of experiment {experiment_id} broke off") from writer.exception()
            piece = await coming
            if piece is None:
                return
            yield piece
            coming = asyncio.create_task(pieces.get())
    finally:
        writer.cancel()
        coming.cancel()
        await asyncio.gather(writer, coming, return_exceptions=True)


async def _write(
    context: Context, experiment_id: int, rows: Rows, form: Format, pieces: asyncio.Queue[bytes | None]
) -> None:
    async def put(piece: bytes | None) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            await pieces.put(piece)

    async with context.database.snapshot() as session:
        experiment = await experiments.find(session, experiment_id)
        found = await trials.page(session, experiment.id, after=None, limit=experiment.trial_count)
        if rows == "trials":
            best = await best_values(session, experiment, found)
            table = await asyncio.to_thread(trial_table, experiment, found, best)
            form.begin(table.schema)
            await put(await asyncio.to_thread(form.add, table))
        else:
            parameters = await asyncio.to_thread(parameter_table, experiment.spec, found)
            parameters = parameters.drop_columns(["trial", "configuration_label"])
            form.begin(pa.schema([*_POINT_COLUMNS, *parameters.schema]))
            async with aclosing(_tables(session, experiment, found, parameters)) as tables:
                async for table in tables:
                    await put(await asyncio.to_thread(form.add, table))
    await put(form.end())
    await put(None)


async def _tables(
    session: AsyncSession, experiment: Experiment, rows: Sequence[Trial], parameters: pa.Table
) -> AsyncGenerator[pa.Table]:
    """Every point in the order of trial, metric and step, beside what its trial has set."""
    names = await repository.metric_names(session)
    numbers = [trial.number for trial in rows]
    waiting: list[Points] = []
    async with aclosing(reading.raw_points(session, experiment, rows)) as batches:
        async for batch in batches:
            waiting.append(batch)
            if sum(map(len, waiting)) >= _ROWS:
                yield await asyncio.to_thread(_table, waiting, names, numbers, parameters)
                waiting = []
    if waiting:
        yield await asyncio.to_thread(_table, waiting, names, numbers, parameters)


def _table(parts: list[Points], names: dict[int, str], numbers: list[int], parameters: pa.Table) -> pa.Table:
    points = pa.Table.from_batches([arrow_columns(Points.concat(parts), names)]).cast(pa.schema(_POINT_COLUMNS))
    of_trial = parameters.take(np.searchsorted(numbers, points.column("trial").to_numpy()))
    for name in parameters.column_names:
        points = points.append_column(name, of_trial.column(name))
    return points
