"""The body of a report in either form, checked and brought into arrays. Nothing in it is trusted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from adadim_core.spec import report_binary
from adadim_core.spec.report import Outcome, Report, TrialUpdate
from service.errors import InvalidError
from service.metrics.reported import ReportedSeries


class UnsupportedTypeError(ValueError):
    """The content type is neither form's."""


@dataclass(frozen=True)
class Delivery:
    """One report as the service works on it."""

    trials: list[TrialUpdate]
    series: list[ReportedSeries]
    outcome: Outcome | None
    size: int = 0
    """Bytes of its body."""
    waiting: str | None = None
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Facts about data sets, by name."""
    token_hash: bytes | None = None
    """What it was sent with, where that was recognised from memory: the attempt may have another token by now."""

    @cached_property
    def trial_numbers(self) -> frozenset[int]:
        """Numbers of the trials it reports on."""
        return frozenset([update.number for update in self.trials] + [series.trial for series in self.series])

    @cached_property
    def points(self) -> int:
        """How many points it holds, those not measured counted in."""
        return sum(len(one.steps) * len(one.values) for one in self.series)

    @classmethod
    def of(cls, report: Report, size: int = 0) -> "Delivery":
        return cls(
            report.trials,
            [ReportedSeries.of(one) for one in report.series],
            report.outcome,
            size,
            report.waiting,
            report.data,
        )


def parse(body: bytes, content_type: str) -> Delivery:
    """Read a report.

    Raises:
        RequestValidationError, InvalidError: what is wrong.
        UnsupportedTypeError: a content type that is neither form's.
    """
    try:
        if is_binary(content_type):
            return _from_binary(body)
        if content_type.partition(";")[0].strip().lower() in ("application/json", ""):
            return Delivery.of(_from_json(body), len(body))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidError(str(error), title="Invalid report") from None
    raise UnsupportedTypeError


def is_binary(content_type: str) -> bool:
    """Whether a report of this type is in the binary form."""
    return content_type.partition(";")[0].strip().lower() == report_binary.MEDIA_TYPE


def _from_json(body: bytes) -> Report:
    try:
        return Report.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise
        # Half a surrogate pair in a worker's last words is no reason to lose them: the slow parser takes it.
        try:
            found = json.loads(body)
        except ValueError:
            raise error from None
        return Report.model_validate(found)


def _from_binary(body: bytes) -> Delivery:
    head, columns = report_binary.split(body)
    series, at = [], 0
    for one in head.series:
        steps = np.frombuffer(columns, "<i8", one.steps, at)
        rows = np.frombuffer(columns, "<f8", one.steps * (2 + len(one.metrics)), at + 8 * one.steps)
        epochs, times, *values = rows.reshape(-1, one.steps)
        at += one.size
        _require(steps, (steps >= 0) & (steps <= 2**62), one.trial, "steps must lie between 0 and 2**62")
        _require(epochs, (epochs >= 0) & (epochs <= 1e9), one.trial, "epochs must lie between 0 and 1e9")
        _require(times, np.isfinite(times), one.trial, "times must be finite")
        series.append(ReportedSeries(one.trial, steps, epochs, times, dict(zip(one.metrics, values, strict=True))))
    return Delivery(head.trials, series, head.outcome, len(body), head.waiting, head.data)


def _require(column: Any, right: Any, trial: int, rule: str) -> None:
    if not right.all():
        raise ValueError(f"series of trial {trial}: {rule}, one is {column[int(np.argmin(right))]}")
