"""The answer: from trials to the statement which configuration is best, by how much, and what is not known.

Owns the decisions. Does not own the formulas (estimates, ranking), who is a replicate (configurations) or the words
(sentence).
"""

import functools
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
    Standing,
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
    seeds_to_settle,
)
from adadim_core.answers.race import SPENT
from adadim_core.answers.ranking import kendall
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
    standings = _standings(question, values, pairs)
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
        ),
        configurations=documents,
        without_labels=_agreements(question, configurations, varied),
    )
    separated = {m: (int(pairs.different.sum()), pairs.tested) for m, pairs in comparisons.items()}
    reason = obstacle(question.metric, varied) if question.sweep else None
    words = sentence.Words(result, _noun(varied), reason, question.sweep, question.changes_values)
    rows_of_table = zip(documents, table.cells(result), strict=True)
    return result.model_copy(
        update={
            "sentence": words.statement(),
            "why": words.why(separated),
            "selection": words.selection(),
            "notes": words.notes(),
            "columns": table.columns(result),
            "configurations": [c.model_copy(update={"cells": cells}) for c, cells in rows_of_table],
        }
    )


@dataclass(frozen=True)
class _Standings:
    """Who leads among the ranked, and how the others stand to it; positions in the list of the ranked."""

    verdict: Verdict
    leader: int
    order: list[int]
    worse: list[bool]


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


def _standings(question: Question, values: Floats, pairs: Pairs) -> _Standings | None:
    """None if there is nothing to compare."""
    if len(values) < 2:
        return None
    sign = 1.0 if question.mode == "max" else -1.0
    scores = sign * adjusted_means(values)
    order = sorted(range(len(values)), key=lambda k: (-scores[k], k))
    leader = order[0]
    worse = [k != leader and sign * _paired(pairs, k, leader) < 0 and _different(pairs, k, leader)
             for k in range(len(values))]  # fmt: skip
    count = sum(worse)
    verdict: Verdict = "best" if count == len(values) - 1 else "leads" if count else "none"
    return _Standings(verdict, leader, order, worse)


def _paired(pairs: Pairs, k: int, leader: int) -> float:
    """Mean of k minus leader over their common seeds."""
    mean = float(pairs.mean[pairs.index(min(k, leader), max(k, leader))])
    return mean if k < leader else -mean


def _different(pairs: Pairs, k: int, leader: int) -> bool:
    return bool(pairs.different[pairs.index(min(k, leader), max(k, leader))])


def _documents(
    question: Question,
    configurations: list[Configuration],
    ranked: list[Configuration],
    standings: _Standings | None,
    comparisons: dict[str, Pairs],
    images: int | None,
) -> list[ConfigurationAnswer]:
    """Ranked ones in their order, then the others in the order of their trials."""
    position = {id(c): k for k, c in enumerate(ranked)}
    place = {k: rank for rank, k in enumerate(standings.order, start=1)} if standings else {}
    found = []
    for number, configuration in enumerate(configurations):
        k = position.get(id(configuration))
        differences = {}
        more = None
        if k is not None and standings is not None and k != standings.leader:
            differences = {
                m: d for m, pairs in comparisons.items() if (d := _difference(pairs, k, standings.leader)) is not None
            }
            if not standings.worse[k]:
                more = _more_seeds(comparisons[question.metric], k, standings.leader)
        found.append(
            ConfigurationAnswer(
                number=number,
                label=configuration.label,
                params=configuration.params,
                trials=[trial.number for trial in configuration.trials],
                seeds=list(configuration.replicates),
                values=[trial.metrics[question.metric] for trial in configuration.replicates.values()],
                standing=_standing(k, standings),
                rank=None if k is None else place.get(k),
                flags=configuration.flags,
                statistics=_statistics(question.metric, configuration, images),
                differences=differences,
                more_seeds=more,
            )
        )
    return sorted(found, key=lambda c: (c.rank is None, c.rank, c.number))


def _standing(k: int | None, standings: _Standings | None) -> Standing:
    if k is None or standings is None:
        return "not ranked"
    if k == standings.leader:
        return "best" if standings.verdict == "best" else "leads"
    return "worse" if standings.worse[k] else "not distinguishable"


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


def _difference(pairs: Pairs, k: int, leader: int) -> Difference | None:
    pair = pairs.index(min(k, leader), max(k, leader))
    n, mean = int(pairs.n[pair]), _paired(pairs, k, leader)
    if n == 0:
        return None
    sd = float(pairs.sd[pair]) if n > 1 else None
    if not np.isfinite(pairs.p[pair]):
        return Difference(seeds=n, mean=mean, sd=sd)
    alone, adjusted = pairs.half_width(pair, ALPHA), pairs.half_width(pair, pairs.level)
    return Difference(
        seeds=n,
        mean=mean,
        sd=sd,
        low=mean - alone,
        high=mean + alone,
        low_adjusted=mean - adjusted,
        high_adjusted=mean + adjusted,
        p=float(pairs.p[pair]),
        p_adjusted=float(pairs.adjusted[pair]),
    )


def _more_seeds(pairs: Pairs, k: int, leader: int) -> int | None:
    pair = pairs.index(min(k, leader), max(k, leader))
    if not np.isfinite(pairs.p[pair]):
        return None
    needed = seeds_to_settle(float(pairs.mean[pair]), float(pairs.sd[pair]), pairs.level)
    return None if needed is None else max(1, needed - int(pairs.n[pair]))


def _measured(configurations: list[Configuration], metric: str) -> bool:
    return any(metric in trial.metrics for c in configurations for trial in c.replicates.values())


def _images(question: Question, configurations: list[Configuration]) -> int | None:
    """Images that the metric is a share of, if it is one."""
    if question.metric not in METRICS or not METRICS[question.metric].share_of_images:
        return None
    return question.images or image_count(_values(configurations, question.metric))


def _resolution(images: int | None, values: Floats, standings: _Standings | None) -> Resolution | None:
    if images is None or standings is None:
        return None
    means = np.nanmean(values, axis=1)
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
    labelled = (1.0 if mode == "max" else -1.0) * np.nanmean(_values(compared, against), axis=1)
    found = []
    for measure in (name for name, metric in METRICS.items() if metric.label_free):
        values = _values(compared, measure)
        if obstacle(measure, varied) is not None or not np.isfinite(values).any(axis=1).all():
            continue
        # without a better end (H(R), I(R;Z), rank) higher is taken as better
        score = (-1.0 if METRICS[measure].higher_is_better is False else 1.0) * np.nanmean(values, axis=1)
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
