"""The binary form of a report, for workers: a JSON head and the series' columns as little-endian 64-bit numbers.

Same content as the JSON of report.py, a tenth of the work to read. Layout: magic, length of the head, head,
then of each series steps (int64), epochs, times and each metric's values (float64), in the head's order.
"""

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from adadim_core.spec.metrics import METRICS
from adadim_core.spec.report import (
    MAX_POINTS_PER_REPORT,
    MAX_TRIALS_PER_REPORT,
    DataFacts,
    MetricName,
    Outcome,
    Report,
    Series,
    TrialNumber,
    TrialUpdate,
    Waiting,
)

MEDIA_TYPE = "application/vnd.adadim.report"
_MAGIC = b"ADR1"
_LENGTH = struct.Struct("<I")
_MAX_METRICS = len(METRICS) + 48


class BinarySeries(BaseModel):
    """What the head says of one series. Every metric was measured at every step."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    trial: TrialNumber
    steps: Annotated[int, Field(ge=1, le=MAX_POINTS_PER_REPORT, description="Number of steps.")]
    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=_MAX_METRICS)]

    @property
    def size(self) -> int:
        """Bytes of its columns."""
        return 8 * self.steps * (3 + len(self.metrics))


class BinaryHead(BaseModel):
    """A report without the numbers of its series."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    data: DataFacts = {}
    trials: Annotated[list[TrialUpdate], Field(max_length=MAX_TRIALS_PER_REPORT)] = []
    series: Annotated[list[BinarySeries], Field(max_length=4 * MAX_TRIALS_PER_REPORT)] = []
    outcome: Outcome | None = None
    waiting: Waiting = None


def encode(report: Report) -> bytes:
    """A report in the binary form."""
    series: list[BinarySeries] = []
    columns: list[bytes] = []
    for one in report.series:
        for chosen, names in _patterns(one):
            series.append(BinarySeries(trial=one.trial, steps=len(chosen), metrics=names))
            columns.append(_column("q", [one.steps[k] for k in chosen]))
            columns += [_column("d", [column[k] for k in chosen]) for column in (one.epochs, one.times)]
            columns += [_column("d", [one.values[name][k] for k in chosen]) for name in names]
    head = BinaryHead(
        data=report.data, trials=report.trials, series=series, outcome=report.outcome, waiting=report.waiting
    )
    text = head.model_dump_json().encode()
    return b"".join((_MAGIC, _LENGTH.pack(len(text)), text, *columns))


def split(body: bytes) -> tuple[BinaryHead, memoryview]:
    """Head and columns of a binary report; the columns have the size the head says.

    Raises:
        ValueError: this is not a binary report. pydantic's ValidationError (a ValueError) names the field of the head.
    """
    start = len(_MAGIC) + _LENGTH.size
    if len(body) < start or not body.startswith(_MAGIC):
        raise ValueError(f"the body does not begin with {_MAGIC.decode()} and the length of the head")
    end = start + _LENGTH.unpack_from(body, len(_MAGIC))[0]
    head = BinaryHead.model_validate_json(body[start:end])
    points = sum(one.steps * len(one.metrics) for one in head.series)
    if points > MAX_POINTS_PER_REPORT:
        raise ValueError(f"{points} points in one report; at most {MAX_POINTS_PER_REPORT} are allowed")
    wanted, found = sum(one.size for one in head.series), len(body) - end
    if wanted != found:
        raise ValueError(f"the head describes columns of {wanted} bytes, {found} follow it")
    return head, memoryview(body)[end:]


def _patterns(series: Series) -> Iterator[tuple[Sequence[int], list[str]]]:
    """The steps at which the same metrics were measured, and these metrics."""
    if not any(None in column for column in series.values.values()):
        yield range(len(series.steps)), list(series.values)
        return
    found: dict[tuple[str, ...], list[int]] = {}
    for k in range(len(series.steps)):
        names = tuple(name for name, column in series.values.items() if column[k] is not None)
        found.setdefault(names, []).append(k)
    for names, chosen in found.items():
        if names:
            yield chosen, list(names)


def _column(kind: str, numbers: Sequence[Any]) -> bytes:
    column = array(kind, numbers)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
