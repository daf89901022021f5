"""Trials grouped into configurations: trials that differ only in `training.seed` share one.

Owns who is a replicate of what, and which replicates count. Does not own any statistics.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adadim_core.spec.plan import configuration_of
from adadim_core.spec.report import TrialState
from adadim_core.spec.seeds import SEED_PATH

_ENDED = ("succeeded", "failed", "stopped")


@dataclass(frozen=True)
class TrialRow:
    """One trial, as far as an answer needs it."""

    number: int
    params: Mapping[str, Any]
    """Dotted spec path to value; empty for a single run. While TPE has yet to choose: the seed at most."""
    state: TrialState
    epoch: int
    """Epochs completed."""
    epochs: int
    """Epochs planned."""
    metrics: Mapping[str, float]
    """Last value of every metric."""

    @property
    def ended(self) -> bool:
        return self.state in _ENDED


@dataclass
class Configuration:
    """Trials that differ in their seed only."""

    params: dict[str, Any]
    """Of its trials, without the seed."""
    label: str
    trials: list[TrialRow] = field(default_factory=list)
    replicates: dict[int, TrialRow] = field(default_factory=dict)
    """Seed to the trial that trained to its end with it and has a number for the metric; in order of the seeds."""
    flags: list[str] = field(default_factory=list)
    """Why it cannot be ranked as an equal of the others; empty: it can."""


def group(
    trials: Iterable[TrialRow], *, metric: str, default_seed: int, chosen: bool, label: Callable[[dict[str, Any]], str]
) -> list[Configuration]:
    """Configurations in the order of their first trial.

    Args:
        trials: in any order; if a number occurs twice, the last one counts.
        metric: the metric that a trial must have measured to be a replicate.
        default_seed: the seed of trials that do not set one.
        chosen: whether trials have values of their own. A trial without values waits for TPE to choose them.
        label: names a configuration by its values.
    """
    found: dict[str, Configuration] = {}
    by_number = {trial.number: trial for trial in trials}
    for _, trial in sorted(by_number.items()):
        params = configuration_of(dict(trial.params))
        if chosen and not params:
            continue
        key = canonical(params)
        if key not in found:
            found[key] = Configuration(params, label(params))
        found[key].trials.append(trial)
    for configuration in found.values():
        _choose_replicates(configuration, metric, default_seed)
    _flag_other_epochs(list(found.values()))
    return list(found.values())


def canonical(params: Mapping[str, Any]) -> str:
    """The same text for the same values, independent of the order of keys and of whether a number is 1 or 1.0."""
    return json.dumps(_plain(params), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choose_replicates(configuration: Configuration, metric: str, default_seed: int) -> None:
    """One trial per seed, the first complete one: a second with the same seed repeats the same training."""
    odd: Counter[str] = Counter()
    chosen: dict[int, TrialRow] = {}
    for trial in configuration.trials:
        seed = int(trial.params.get(SEED_PATH, default_seed))
        value = trial.metrics.get(metric, math.nan)
        if trial.state == "failed":
            odd["failed"] += 1
        elif trial.state == "stopped" and trial.epoch > 0:
            odd["stopped early"] += 1
        elif trial.state == "succeeded" and not math.isfinite(value):
            odd["did not measure a number" if metric in trial.metrics else "did not measure it"] += 1
        elif trial.state == "succeeded":
            chosen.setdefault(seed, trial)
    configuration.replicates = dict(sorted(chosen.items()))
    total = len(configuration.trials)
    configuration.flags = [f"{count} of {total} replicates {what}" for what, count in sorted(odd.items())]


def _flag_other_epochs(configurations: list[Configuration]) -> None:
    """Flags configurations that trained longer or shorter than most; at a tie, the shorter training."""
    lengths = [[trial.epochs for trial in c.replicates.values()] for c in configurations]
    counted = Counter(length for of_one in lengths for length in of_one)
    if len(counted) < 2:
        return
    usual = max(counted, key=lambda length: (counted[length], length))
    for configuration, of_one in zip(configurations, lengths, strict=True):
        others = sorted(set(of_one) - {usual})
        if others:
            configuration.flags.append(f"trained {' and '.join(map(str, others))} epochs, the others {usual}")
