"""Extending an ended sweep by seeds or configurations: the changes to its spec that leave its trials in place.

Owns the rule that existing trials keep their numbers and values. Running the new ones is the workers' task.
"""

from typing import Any

from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.plan import configuration_of, plan_trials, seed_of
from adadim_core.spec.seeds import SEED_PATH, SeedRange


def extended(
    spec: ExperimentSpec, *, seeds: int | list[int] | None = None, trials: int | None = None
) -> dict[str, Any]:
    """A sweep's spec with more seeds or more configurations, as a document that is yet to be validated.

    Args:
        spec: The sweep.
        seeds: Its seeds from now on: how many, or all of them; for a race how many at most. None: as before.
        trials: Its configurations from now on. None: as before.

    Raises:
        ValueError: it is not a sweep, or its trials would change if others were added.
    """
    search = spec.search
    if search is None:
        raise ValueError("a single run cannot be extended; clone it with a search section")
    if seeds is not None and SEED_PATH in search.space:
        raise ValueError(f"its space lists {SEED_PATH}; clone it with search.seeds instead")
    document = spec.model_dump(mode="json")
    if isinstance(search.seeds, SeedRange) and seeds is not None:
        if isinstance(seeds, list):
            raise ValueError("a race takes the number of seeds at most, not a list of them")
        document["search"]["seeds"]["most"] = seeds
    elif seeds is not None:
        document["search"]["seeds"] = seeds
    if trials is not None:
        document["search"]["trials"] = trials
    return document


def continues(before: ExperimentSpec, after: ExperimentSpec) -> bool:
    """Whether `after` equals `before` except for trials added at the end of its plan."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    if before.search is not None and after.search is not None:
        new["search"]["trials"] = old["search"]["trials"]
        if isinstance(before.search.seeds, SeedRange) and isinstance(after.search.seeds, SeedRange):
            new["search"]["seeds"]["most"] = before.search.seeds.most
        else:
            new["search"]["seeds"] = old["search"]["seeds"]
    rows = _rows(before)
    return new == old and _rows(after)[: len(rows)] == rows


def _rows(spec: ExperimentSpec) -> list[tuple[int, int, dict[str, Any]]]:
    """Every trial in the order of its number: its configuration, its seed, its values."""
    return [
        (plan.configuration, seed_of(spec, plan.params), configuration_of(plan.params)) for plan in plan_trials(spec)
    ]
