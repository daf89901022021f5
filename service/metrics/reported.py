"""Series as they come out of a report of either form (JSON or binary), in arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from adadim_core.spec.report import Series
from service.metrics.points import Points, series_key


@dataclass(frozen=True, eq=False)
class ReportedSeries:
    """Points of one trial: columns of one length."""

    trial: int
    steps: Any
    epochs: Any
    times: Any
    values: Mapping[str, Any]
    """Arrays, or lists in which None says not measured."""

    @classmethod
    def of(cls, series: Series) -> Self:
        return cls(series.trial, series.steps, series.epochs, series.times, series.values)

    def points(self, metric_ids: Mapping[str, int]) -> Iterator[Points]:
        """The measured points, metric by metric."""
        steps, epochs = np.asarray(self.steps, np.int64), np.asarray(self.epochs, np.float32)
        times = np.asarray(self.times, float)
        whole = []
        for name, values in self.values.items():
            if isinstance(values, list) and None in values:
                chosen = [k for k, value in enumerate(values) if value is not None]
                if chosen:
                    key = series_key(self.trial, metric_ids[name])
                    yield Points.of(key, steps[chosen], epochs[chosen], times[chosen], [values[k] for k in chosen])
            else:
                whole.append((metric_ids[name], values))
        if whole:  # together: a report of one step and many metrics costs no more than one of one metric
            keys = np.array([series_key(self.trial, metric_id) for metric_id, _ in whole])
            n = len(whole)
            yield Points.of(
                keys.repeat(len(steps)), np.tile(steps, n), np.tile(epochs, n), np.tile(times, n),
                np.concatenate([values for _, values in whole]),
            )  # fmt: skip
