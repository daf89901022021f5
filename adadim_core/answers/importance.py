"""The importance of swept fields: the share of the order of configurations that each explains by itself.

Owns the estimate and its interval. Does not own which trials count (configurations) nor what a field is (fields).

Configurations are ranked by their means, so that a diverged one weighs no more than a bad one. A field's share is the
adjusted coefficient of determination of a one-way analysis of variance of the ranks, epsilon squared (Kelley 1935):
1 - (SS_within / (n - k)) / (SS_total / (n - 1)) over k groups, at least 0. A numeric field with many values is grouped
at its quantiles. What fields do only together is in none of the shares.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adadim_core.answers.answer import Question
from adadim_core.answers.comparability import obstacle, varied_paths
from adadim_core.answers.configurations import Configuration, TrialRow, canonical, group
from adadim_core.answers.document import FieldImportance, Importance, SweptField
from adadim_core.answers.fields import swept_fields
from adadim_core.answers.student import Floats
from adadim_core.answers.words import counted, listed, within_sentence
from adadim_core.spec.metrics import metric_title

LEAST_CONFIGURATIONS = 20
_BOOTSTRAPS = 1000
_GROUPS = 5
"""Most groups of a numeric field."""
_LEAST_IN_GROUP = 4


def importance(question: Question, trials: Iterable[TrialRow]) -> Importance:
    """What the swept fields mean for the metric, from the configurations that have a value of it so far."""
    found = group(
        trials, metric=question.metric, default_seed=question.default_seed, chosen=question.chosen,
        label=lambda _: "",
    )  # fmt: skip
    measured = [c for c in found if c.replicates and not c.flags]
    fields, values = swept_fields([c.params for c in measured])
    refused = _refusal(question, measured)
    judged = [] if refused else _judged(fields, values, _means(measured, question.metric))
    told = [f for f in judged if f.low is not None and f.low > 0]
    title = metric_title(question.metric)
    if refused:
        sentence = f"No importance: {refused}."
    elif told:
        sentence = (
            f"Of the order of {counted(len(measured), 'configuration')} by {within_sentence(title)}, "
            f"{listed(f'{f.field} explains {100 * (f.share or 0):.0f} %' for f in told)}."
        )
    else:
        sentence = f"No field alone explains the order of {len(measured)} configurations beyond chance."
    return Importance(
        metric=question.metric,
        title=title,
        configurations=len(measured),
        refused=refused,
        sentence=sentence,
        fields=judged,
    )


def _refusal(question: Question, measured: Sequence[Configuration]) -> str | None:
    if question.changes_values:
        return "trials of a population change their values while they train"
    reason = obstacle(question.metric, varied_paths(c.params for c in measured))
    if reason is not None:
        return f"{within_sentence(metric_title(question.metric))} cannot be compared: {reason}"
    if len(measured) < LEAST_CONFIGURATIONS:
        return f"it takes {LEAST_CONFIGURATIONS} configurations with a result, there are {len(measured)}"
    return None


def _means(configurations: Sequence[Configuration], metric: str) -> Floats:
    return np.array([np.mean([trial.metrics[metric] for trial in c.replicates.values()]) for c in configurations])


def _judged(fields: Sequence[SweptField], values: Sequence[Mapping[str, Any]], means: Floats) -> list[FieldImportance]:
    """The fields, the most important first, those without a share at the end."""
    found = []
    for field in fields:
        having = [k for k, of_one in enumerate(values) if field.name in of_one]
        refused, estimate = None, None
        if len(having) < LEAST_CONFIGURATIONS:
            refused = f"{len(having)} of the {LEAST_CONFIGURATIONS} configurations it takes have it"
        else:
            groups = _grouped([values[k][field.name] for k in having], numeric=field.numeric)
            if groups is None:
                refused = "it has as many values as configurations" if not field.numeric else "it has one value"
            else:
                estimate = _estimate(_ranks(means[having]), groups)
        share, low, high = estimate or (None, None, None)
        found.append(
            FieldImportance(
                field=field.name,
                within=field.within,
                configurations=len(having),
                share=share,
                low=low,
                high=high,
                refused=refused,
            )
        )
    return sorted(found, key=lambda f: (f.share is None, -(f.share or 0)))


def _grouped(values: Sequence[Any], *, numeric: bool) -> np.ndarray | None:
    """The group of each value, from 0; None if groups would tell nothing."""
    if numeric:
        numbers = np.array(values, float)
        most = min(_GROUPS, len(numbers) // _LEAST_IN_GROUP)
        if len(np.unique(numbers)) > most:
            cuts = np.quantile(numbers, np.arange(1, most) / most)
            numbers = np.searchsorted(cuts, numbers, side="left").astype(float)
        _, groups = np.unique(numbers, return_inverse=True)
    else:
        _, groups = np.unique([canonical({"": value}) for value in values], return_inverse=True)
    count = int(groups.max()) + 1
    return groups if 1 < count <= len(values) // 2 else None


def _ranks(means: Floats) -> Floats:
    """From 1, ties share their mean rank."""
    _, inverse, counts = np.unique(means, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _estimate(ranks: Floats, groups: np.ndarray) -> tuple[float, float, float]:
    """The share with the ends of its interval: percentiles over bootstraps, moved by the bootstrap's own bias."""
    n = len(ranks)
    drawn = np.random.default_rng(0).integers(0, n, (_BOOTSTRAPS, n))
    share = float(_shares(ranks[None], groups[None])[0])
    resampled = _shares(ranks[drawn], groups[drawn])
    resampled = resampled[np.isfinite(resampled)]
    if not math.isfinite(share):  # all ranks are the same
        return 0.0, 0.0, 0.0
    low, high = np.quantile(resampled, (0.025, 0.975)) - (resampled.mean() - share)
    clipped = np.clip((share, min(low, share), max(high, share)), 0.0, 1.0)
    return float(clipped[0]), float(clipped[1]), float(clipped[2])


def _shares(ranks: Floats, groups: np.ndarray) -> Floats:
    """Epsilon squared of each row; ranks and groups are (B, n). Not yet cut at 0; NaN where all ranks are equal."""
    n, count = ranks.shape[1], int(groups.max()) + 1
    there = groups[:, :, None] == np.arange(count)
    sizes = there.sum(axis=1)
    sums = (ranks[:, :, None] * there).sum(axis=1)
    total = (ranks**2).sum(axis=1) - ranks.sum(axis=1) ** 2 / n
    between = np.where(sizes > 0, sums**2 / np.maximum(sizes, 1), 0.0).sum(axis=1) - ranks.sum(axis=1) ** 2 / n
    present = (sizes > 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - ((total - between) / (n - present)) / (total / (n - 1)), np.nan)
