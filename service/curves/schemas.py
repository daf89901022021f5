"""What the API says of curves."""

from service.schema import Schema


class CurveRead(Schema):
    """One metric of one configuration, at consecutive positions of the metric."""

    metric: str
    configuration: int
    """Its number in the answer."""
    first: int
    """Index of its first position."""
    n: list[int]
    """Trials that were measured so far."""
    mean: list[float | None]
    """Over these trials; null where one of them is not a number."""
    low: list[float | None] | None
    high: list[float | None] | None
    """95 % t interval of the mean; null with a single trial."""


class CurvesRead(Schema):
    """Curves of an experiment."""

    experiment_id: int
    seq: int
    """The last event they include."""
    positions: dict[str, list[float]]
    """By metric: steps, epochs, or seconds since a trial's first point."""
    curves: list[CurveRead]
