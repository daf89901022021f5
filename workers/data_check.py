"""Whether trials can read their data, asked by a driver that sees what they will see, before it starts Ray.

Owns what ends a run at once and what is a warning. Reads names, sizes and headers; what takes longer is left to the
trials, as is every image.
"""

import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple

from adadim_core.spec import TrialPlan
from workers.context import RunContext
from workers.data_paths import places, second_path, unseen
from workers.errors import RunError

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 10.0
_SIDE = 32
"""A second set is resized to the images that are trained on, whatever side these have."""


class _Source(NamedTuple):
    """A data set as a spec names it."""

    field: str
    dataset: str
    path: str | None
    image_size: int | None


def check_data(context: RunContext, plans: Sequence[TrialPlan], paths: Sequence[str]) -> None:
    """Look for the data of these trials, and at it.

    Args:
        context: The run.
        plans: Its trials.
        paths: Their distinct data.path as the spec has them; none where some need no path.

    Raises:
        RunError: no trial can read its data, or none the set that all are judged on. Everything that is wrong is named.
    """
    problems = unseen(places(paths, context.data_folder))
    missing = unseen(places(second_path(context.spec), context.data_folder), "evaluation.transfer.path")
    sources = len(paths)
    if not problems and not missing:
        own = _sources(context, plans) if paths else []
        problems, missing = _unreadable(own, _second(context))
        sources = len(own)
    if missing or (problems and len(problems) == sources):
        raise RunError("; ".join([*problems, *missing]))
    for problem in problems:
        logger.warning("%s; trials that need it will fail", problem)


def _sources(context: RunContext, plans: Sequence[TrialPlan]) -> list[_Source]:
    """The distinct data sets that trials are trained on."""
    found: dict[_Source, None] = {}
    for plan in plans:
        varied = {path: value for path, value in plan.params.items() if path.partition(".")[0] == "data"}
        data = context.trial_spec(TrialPlan(plan.number, varied)).data
        found[_Source("data", data.dataset, data.path, data.image_size)] = None
    return list(found)


def _second(context: RunContext) -> list[_Source]:
    transfer = context.trial_spec(TrialPlan(0, {})).evaluation.transfer if second_path(context.spec) else None
    return [] if transfer is None else [_Source("evaluation.transfer", transfer.dataset, transfer.path, _SIDE)]


def _unreadable(own: Sequence[_Source], second: Sequence[_Source]) -> tuple[list[str], list[str]]:
    """What is wrong with these data sets, as far as a moment tells."""
    found: dict[str, list[str]] = {"data": [], "evaluation.transfer": []}

    def look() -> None:
        # Imported here: it takes torch, which a driver of other nodes' trials does without.
        from adadim_core.data.errors import DataError
        from adadim_core.data.registry import check_source

        for source in (*own, *second):
            try:
                check_source(source.dataset, path=source.path, image_size=source.image_size)
            except (DataError, OSError) as error:
                found[source.field].append(f"{source.field}: {error}")

    looking = threading.Thread(target=look, name="data-check", daemon=True)
    looking.start()
    looking.join(_PATIENCE_SECONDS)
    return list(found["data"]), list(found["evaluation.transfer"])
