"""The plan of an experiment: its trials with their numbers, grouped into configurations and replicates.

Trials that differ only in training.seed share a configuration; each of them is a replicate of it. The plan is a
function of the spec, so that service and workers derive the same one independently. The values that a search tries are
in search.py.
"""

import json
from dataclasses import dataclass
from typing import Any

from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.seeds import SEED_PATH, SeedRange


@dataclass(frozen=True)
class TrialPlan:
    """One trial to run: its number within the experiment and the spec fields it sets."""

    number: int
    """Position in the plan, from 0."""
    params: dict[str, Any]
    """Dotted spec path to value; empty for a single run. While TPE has yet to choose: the seed at most."""
    configuration: int = 0
    """Position of its configuration in the plan: replicates share it."""


def plan_trials(spec: ExperimentSpec) -> list[TrialPlan]:
    """Every trial of an experiment, by number. A spec without a search has one.

    Replicates come in blocks, the first seed of every configuration first: more seeds add blocks at the end, and leave
    the numbers of the others as they are.
    """
    search = spec.search
    if search is None:
        return [TrialPlan(0, {})]
    found = search.configurations
    if SEED_PATH in search.space:
        known: dict[str, int] = {}
        places = [known.setdefault(_text(configuration_of(params)), len(known)) for params in found]
        return [TrialPlan(number, params, places[number]) for number, params in enumerate(found)]
    if search.seeds == 1:  # the spec's own, which no trial need name
        return [TrialPlan(number, params, number) for number, params in enumerate(found)]
    return [
        TrialPlan(block * len(found) + place, {**params, SEED_PATH: seed}, place)
        for block, seed in enumerate(planned_seeds(spec))
        for place, params in enumerate(found)
    ]


def planned_seeds(spec: ExperimentSpec) -> list[int]:
    """The seeds every configuration trains with, in the order of their blocks. For a race: at most."""
    seeds = spec.search.seeds if spec.search is not None else 1
    if isinstance(seeds, list):
        return seeds
    count = seeds.most if isinstance(seeds, SeedRange) else seeds
    return list(range(spec.training.seed, spec.training.seed + count))


def configuration_of(params: dict[str, Any]) -> dict[str, Any]:
    """The values of a trial's configuration: all but the seed. Empty while TPE has yet to choose."""
    return {path: value for path, value in params.items() if path != SEED_PATH}


def seed_of(spec: ExperimentSpec, params: dict[str, Any]) -> int:
    """The seed a trial with these values trains with."""
    return int(params.get(SEED_PATH, spec.training.seed))


def plan_summary(spec: ExperimentSpec) -> str:
    """How much a spec would run, as "12 configurations x 5 seeds = 60 trials"."""
    plans = plan_trials(spec)
    trials = _counted(len(plans), "trial")
    if spec.search is None:
        return trials
    count = len({plan.configuration for plan in plans})
    configurations, seeds = _counted(count, "configuration"), spec.search.seeds
    if isinstance(seeds, SeedRange):
        return f"{configurations} x {seeds.first} to {seeds.most} seeds = at most {trials}"
    each, rest = divmod(len(plans), count)
    text = f"{configurations}, {trials}" if rest else f"{configurations} x {_counted(each, 'seed')} = {trials}"
    asked = spec.search.trials
    if asked is not None and len(spec.search.configurations) < asked:
        text += f" (trials asks for {asked}; the space has no more that differ)"
    return text


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


_text = json.JSONEncoder(sort_keys=True).encode
