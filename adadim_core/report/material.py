"""What a report is made of: the answer, the curves behind it, and where both come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adadim_core.answers.document import Answer
from adadim_core.spec.metrics import METRICS


@dataclass(frozen=True)
class Curve:
    """One metric of one trial over training."""

    epochs: list[float]
    values: list[float]


@dataclass(frozen=True)
class Material:
    """Everything a report shows."""

    name: str
    spec: Mapping[str, Any]
    answer: Answer
    curves: Mapping[str, Mapping[int, Curve]]
    """Metric to trial number to its curve."""
    source: str
    """Where the results come from, as "experiment 7 of http://127.0.0.1:8080"."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package to version, and what it ran on, as far as it is known."""

    @property
    def drawn(self) -> list[str]:
        """Metrics whose curves are drawn: the one that ranks first."""
        return [metric for metric in wanted_metrics(self.answer) if self.curves.get(metric)]


def wanted_metrics(answer: Answer) -> list[str]:
    """Metrics whose course over training is drawn: the one that ranks, those of the page's first charts, and those
    that say why."""
    drawn = [name for name, metric in METRICS.items() if metric.comparable and (metric.chart or metric.explains)]
    return list(dict.fromkeys([answer.metric, *drawn]))
