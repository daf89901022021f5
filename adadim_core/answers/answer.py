"""The answer: from trials to the statement which configuration is best, by how much, and what is not known.

Owns what is compared. Does not own the formulas (estimates, ranking), who is a replicate (configurations), who leads
(standings) or the words (sentence).
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from adadim_core.answers import sentence, table
from adadim_core.answers.comparability import obstacle, varied_paths
from adadim_core.answers.configurations import Configuration, TrialRow, group
from adadim_core.answers.document import (
    Agreement,
    Answer,
    ConfigurationAnswer,
    Difference,
    Method,
    Resolution,
    Statistics,
    Verdict,
)
from adadim_core.answers.estimates import (
    ALPHA,
    Pairs,
    adjusted_means,
    binomial_error,
    compare,
    image_count,
    mean_interval,
)
from adadim_core.answers.fields import swept_fields
from adadim_core.answers.race import SPENT
from adadim_core.answers.ranking import kendall
from adadim_core.answers.standings import Standings, why_none
from adadim_core.answers.student import Floats
from adadim_core.spec import ExperimentSpec, trial_label
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.metrics import EXPLAINING, METRICS
from adadim_core.spec.seeds import SEED_PATH


@dataclass(frozen=True)
class Question:
    """The question to the trials: the part of a spec on which an answer depends."""

    metric: str
    mode: Literal["max", "min"]
    sweep: bool
    """Whether there is a search."""
    chosen: bool
    """Whether it varies more than the seed."""
    changes_values: bool
    """Whether trials change their values while they train: a population."""
    level: float
    """Family-wise error of the comparisons."""
    default_seed: int
    images: int | None
    """Size of the test set, if the data set has a fixed size; None: it is derived from the values."""
    label: Callable[[dict[str, Any]], str]

    @classmethod
    def of(cls, spec: ExperimentSpec) -> Self:
        """The question a spec asks."""
        search = spec.search
        return cls(
            metric=search.metric if search else "knn_top1",
            mode=search.mode if search else "max",
            sweep=search is not None,
            chosen=search is not None and set(search.space) != {SEED_PATH},
            changes_values=search is not None and search.scheduler.name == "pbt",
            level=_level(search.scheduler.name if search else None),
            default_seed=spec.training.seed,
            images=None if spec.context["own_data"] else DATASETS[spec.data.dataset].test_images,
            label=functools.partial(_label, spec),
        )

    @classmethod
    def of_stored(cls, fields: Mapping[str, Any]) -> Self:
        """The question of a spec that this version may no longer accept; labels are values."""
        search = fields.get("search") or {}
        return cls(
            metric=search.get("metric", "knn_top1"),
            mode=search.get("mode", "max"),
            sweep=bool(search),
            chosen=set(search.get("space") or {SEED_PATH: None}) != {SEED_PATH},
            changes_values=(search.get("scheduler") or {}).get("name") == "pbt",
            level=_level((search.get("scheduler") or {}).get("name")),
            default_seed=(fields.get("training") or {}).get("seed", 0),
            images=None,
            label=_values_as_label,
        )


def _level(scheduler: str | None) -> float:
    """A race has spent a part of the error on its looks at the same values."""
    return ALPHA - SPENT if scheduler == "race" else ALPHA


def _label(spec: ExperimentSpec, params: dict[str, Any]) -> str:
    """A configuration in words. Values of an earlier version that no longer fit the spec are shown as they are."""
    try:
        return trial_label(spec, params)
    except (ValueError, KeyError, TypeError, AttributeError):  # pydantic's is a ValueError
        return _values_as_label(params)


def _values_as_label(params: dict[str, Any]) -> str:
    return ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in params.items())


def answer(question: Question, trials: Iterable[TrialRow]) -> Answer:
    """The answer from the trials, whether or not all of them have ended."""
    rows = list({trial.number: trial for trial in trials}.values())
    configurations = group(
        rows,
        metric=question.metric,
        default_seed=question.default_seed,
        chosen=question.chosen,
        label=question.label,
    )
    varied = varied_paths(c.params for c in configurations)
    ranked = _rankable(question, configurations, varied)
    images = _images(question, configurations)
    values = _values(ranked, question.metric)
    pairs = compare(values, step=1 / images if images else 0.0, alpha=question.level)
    standings = Standings.of(values, pairs, question.mode)
    verdict: Verdict = "no statement" if standings is None else standings.verdict
    beside = [m for m in EXPLAINING if m != question.metric and obstacle(m, varied) is None and _measured(ranked, m)]
    comparisons = {m: compare(_values(ranked, m), alpha=question.level) for m in beside} if len(ranked) > 1 else {}
    comparisons[question.metric] = pairs
    documents = _documents(question, configurations, ranked, standings, comparisons, images)
    result = Answer(
        verdict=verdict,
        sentence="",
        why=None,
        selection=None,
        notes=[],
        metric=question.metric,
        title=METRICS[question.metric].title if question.metric in METRICS else question.metric,
        mode=question.mode,
        final=all(row.ended for row in rows),
        trials_done=sum(row.ended for row in rows),
        trials=len(rows),
        leader=None if standings is None else configurations.index(ranked[standings.leader]),
        resolution=_resolution(images, values, standings),
        method=Method(
            confidence=1 - ALPHA,
            level=question.level,
            test="paired t test over common seeds, two-sided",
            adjustment="Holm, over all pairs of ranked configurations",
            comparisons=pairs.tested,
            difference_level=pairs.level,
        ),
        configurations=documents,
        without_labels=_agreements(question, configurations, varied),
    )
    separated = {m: (int(pairs.different.sum()), pairs.tested) for m, pairs in comparisons.items()}
    reason = obstacle(question.metric, varied) if question.sweep else None
    untested = why_none(pairs) if standings is None else None
    words = sentence.Words(result, _noun(varied), reason, untested, question.sweep, question.changes_values)
    rows_of_table = zip(documents, table.cells(result), strict=True)
    fields, values_of = swept_fields([c.params for c in configurations])
    return result.model_copy(
        update={
            "sentence": words.statement(),
            "why": words.why(separated),
            "selection": words.selection(),
            "notes": words.notes(),
            "fields": fields,
            "not_comparable": {name: why for name in METRICS if (why := obstacle(name, varied)) is not None},
            "columns": table.columns(result),
            "configurations": [
                c.model_copy(update={"cells": cells, "fields": values_of[c.number]}) for c, cells in rows_of_table
            ],
        }
    )


def _rankable(question: Question, configurations: list[Configuration], varied: list[str]) -> list[Configuration]:
    """Configurations that may be compared as equals: two replicates or more, all trained alike and to the end."""
    if question.changes_values or (question.sweep and obstacle(question.metric, varied) is not None):
        return []
    return [c for c in configurations if not c.flags and len(c.replicates) >= 2]


def _values(configurations: list[Configuration], metric: str) -> Floats:
    """(K, S) over all seeds of these configurations; NaN where there is no replicate, or no finite value."""
    seeds = sorted({seed for c in configurations for seed in c.replicates})
    column = {seed: k for k, seed in enumerate(seeds)}
    values = np.full((len(configurations), len(seeds)), np.nan)
    for k, configuration in enumerate(configurations):
        for seed, trial in configuration.replicates.items():
            values[k, column[seed]] = trial.metrics.get(metric, np.nan)
    values[~np.isfinite(values)] = np.nan
    return values


def _documents(
    question: Question,
    configurations: list[Configuration],
    ranked: list[Configuration],
    standings: Standings | None,
    comparisons: dict[str, Pairs],
    images: int | None,
) -> list[ConfigurationAnswer]:
    """The leader, the other ranked ones in their order, then the rest in the order of their trials."""
    position = {id(c): k for k, c in enumerate(ranked)}
    place = {k: rank for rank, k in enumerate(standings.order, start=1)} if standings else {}
    found = []
    for number, configuration in enumerate(configurations):
        k = position.get(id(configuration))
        differences: dict[str, Difference] = {}
        more = untested = None
        if k is not None and standings is not None and k != standings.leader:
            found_of = ((m, standings.difference(pairs, k)) for m, pairs in comparisons.items())
            differences = {m: difference for m, difference in found_of if difference is not None}
            more, untested = standings.more_seeds(k), standings.untested(k)
        found.append(
            ConfigurationAnswer(
                number=number,
                label=configuration.label,
                params=configuration.params,
                trials=[trial.number for trial in configuration.trials],
                seeds=list(configuration.replicates),
                values=[trial.metrics[question.metric] for trial in configuration.replicates.values()],
                standing="not ranked" if k is None or standings is None else standings.of_one(k),
                rank=None if k is None else place.get(k),
                flags=configuration.flags,
                statistics=_statistics(question.metric, configuration, images),
                differences=differences,
                more_seeds=more,
                untested=untested,
            )
        )
    return sorted(found, key=lambda c: (c.rank is None, c.standing not in ("best", "leads"), c.rank, c.number))


def _statistics(metric: str, configuration: Configuration, images: int | None) -> dict[str, Statistics]:
    """Statistics of every measured metric that may rank a sweep."""
    found = {}
    replicates = configuration.replicates.values()
    for name in dict.fromkeys([metric, *(name for name, known in METRICS.items() if known.ranks)]):
        values = np.array([trial.metrics.get(name, np.nan) for trial in replicates], float)
        values = values[np.isfinite(values)]
        if len(values):
            step = 1 / images if images and name == metric else 0.0
            found[name] = Statistics(**vars(mean_interval(values, step=step)))
    return found


def _measured(configurations: list[Configuration], metric: str) -> bool:
    """Whether a replicate has a finite value of it."""
    trials = (trial for c in configurations for trial in c.replicates.values())
    return any(math.isfinite(trial.metrics.get(metric, math.nan)) for trial in trials)


def _images(question: Question, configurations: list[Configuration]) -> int | None:
    """Images that the metric is a share of, if it is one."""
    if question.metric not in METRICS or not METRICS[question.metric].share_of_images:
        return None
    return question.images or image_count(_values(configurations, question.metric))


def _resolution(images: int | None, values: Floats, standings: Standings | None) -> Resolution | None:
    if images is None or standings is None:
        return None
    means = adjusted_means(values)
    spread = float(means.max() - means.min())
    error = binomial_error(float(means[standings.leader]), images)
    return Resolution(
        images=images,
        step=1 / images,
        binomial_error=error,
        spread=spread,
        saturated=spread <= max(error, 1 / images),
    )


def _agreements(question: Question, configurations: list[Configuration], varied: list[str]) -> list[Agreement]:
    """What each measure without labels would have made of the configurations that may be compared."""
    by_labels = [question.metric, *METRICS]
    against = next(
        (m for m in by_labels if m in METRICS and METRICS[m].needs_labels and _measured(configurations, m)), ""
    )
    mode = question.mode if against == question.metric else "max"
    compared = [c for c in configurations if not c.flags and c.replicates and _measured([c], against)]
    if len(compared) < 2 or question.changes_values or obstacle(against, varied) is not None:
        return []
    labelled = (1.0 if mode == "max" else -1.0) * adjusted_means(_values(compared, against))
    found = []
    for measure in (name for name, metric in METRICS.items() if metric.label_free):
        values = _values(compared, measure)
        if obstacle(measure, varied) is not None or not np.isfinite(values).any(axis=1).all():
            continue
        # without a better end (H(R), I(R;Z), rank) higher is taken as better
        score = (-1.0 if METRICS[measure].higher_is_better is False else 1.0) * adjusted_means(values)
        tau, picked = kendall(score, labelled), int(np.argmax(score))
        found.append(
            Agreement(
                measure=measure,
                against=against,
                configurations=len(compared),
                tau=tau.tau,
                low=tau.low,
                high=tau.high,
                picks=configurations.index(compared[picked]),
                costs=float(labelled.max() - labelled[picked]),
            )
        )
    return found


def _noun(varied: list[str]) -> str:
    """A word for what is compared."""
    weightings = varied and all(p == "objective.weighting" or p.startswith("objective.weighting.") for p in varied)
    return "weightings" if weightings else "configurations"
