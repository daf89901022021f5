"""What the API says of metrics."""

from adadim_core.spec.report import JsonFloat
from service.schema import Schema


class SeriesRead(Schema):
    """One metric of one trial in columns. Non-finite values are the strings "NaN", "Infinity", "-Infinity"."""

    trial: int
    """The trial's number within its experiment."""
    metric: str
    steps: list[int]
    epochs: list[JsonFloat]
    times: list[JsonFloat]
    """Unix time in seconds."""
    values: list[JsonFloat]
    total: int
    """Points stored; more than shown if the series was downsampled."""


class MetricsRead(Schema):
    """Series of an experiment."""

    experiment_id: int
    seq: int
    """The last event these series include: follow /events?after=seq to miss nothing."""
    series: list[SeriesRead]


class LastRead(Schema):
    """Last values of an experiment's trials in columns of one length."""

    experiment_id: int
    seq: int
    """The last event they include."""
    trials: list[int]
    """Numbers of the trials."""
    metrics: dict[str, list[JsonFloat | None]]
    """By metric, the value at the highest step of each trial; null where it has none."""
    steps: dict[str, list[int | None]]
    """The steps of these values."""
