"""`adadim export`: every point of an experiment as a file or as TensorBoard event files, or its trials as a table.

CSV and Parquet are the service's own files. TensorBoard's are written here, by tensorboard's own writer: a folder a
trial, a scalar a metric, and what the trial has set as its hyperparameters.
"""

import codecs
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from adadim.client import Client, ClientError
from adadim_core.storage.atomic import write_atomically

Rows = Literal["points", "trials"]
_OF_A_POINT = ("trial", "metric", "step", "epoch", "time", "value")


def export_rows(client: Client, experiment_id: int, rows: Rows, form: str, output: Path | None) -> str:
    """Write an experiment's points or trials; says what was written. Raises ClientError, OSError."""
    if form == "tensorboard":
        if rows == "trials":
            raise ClientError("TensorBoard's files are of points, each trial with what it has set: leave out --rows")
        folder = output or Path(f"experiment-{experiment_id}-tensorboard")
        count = _tensorboard(_lines(client.export(experiment_id, "csv")), folder)
        return f"{count} points in {folder}; see them with: tensorboard --logdir {folder}"
    path = output or Path(f"experiment-{experiment_id}{'-trials' if rows == 'trials' else ''}.{form}")
    # A transfer that breaks off leaves no file that looks whole.
    write_atomically(path, lambda file: file.writelines(client.export(experiment_id, form, rows)))
    return f"{path}: {path.stat().st_size} bytes"


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Pieces of any size as lines."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
    for piece in pieces:
        *lines, rest = (rest + decoder.decode(piece)).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest:
        yield rest


def _tensorboard(lines: Iterable[str], folder: Path) -> int:
    """Write the points of a CSV export under a folder; returns how many. Needs the package tensorboard.

    Args:
        lines: the export's lines, in the order of trial, metric and step.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        raise ClientError("this takes the package tensorboard: install adadim[tensorboard]") from None
    if any(folder.glob("trial-*")):
        raise ClientError(f"{folder} holds an export already; TensorBoard would show its points twice")
    trial, writer, count = None, None, 0
    try:
        for row in csv.DictReader(lines):
            if row["trial"] != trial:
                if writer is not None:
                    writer.close()
                trial = row["trial"]
                name = f"trial-{int(trial):04d}"
                writer = EventFileWriter(str(folder / name))
                writer.add_event(Event(wall_time=float(row["time"]), summary=hparams_pb(_set(row), trial_id=name)))
            scalar = Summary.Value(tag=row["metric"], simple_value=float(row["value"]))
            # Each with its own time: TensorBoard's wall clock is then that of the training.
            event = Event(wall_time=float(row["time"]), step=int(row["step"]), summary=Summary(value=[scalar]))
            if writer is not None:
                writer.add_event(event)
            count += 1
    finally:
        if writer is not None:
            writer.close()
    return count


def _set(row: dict[str, str]) -> dict[str, str | float]:
    """What the trial of a point has set, by path, with its configuration and seed."""
    found: dict[str, str | float] = {}
    for name, text in row.items():
        if name in _OF_A_POINT or text == "":
            continue
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    return found
