"""Trials as the API shows them: their rows, and what they are called."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from adadim_core.spec import ExperimentSpec, trial_label
from service.database.tables import Trial
from service.trials.schemas import TrialRead


def shown(trials: Sequence[Trial], spec: Mapping[str, Any]) -> list[TrialRead]:
    """Trials of one experiment as they are shown.

    Takes a millisecond for some ten of them: call it in a thread where they are many.

    Args:
        spec: the experiment's, as it is stored.
    """
    items = [TrialRead.model_validate(trial) for trial in trials]
    try:
        checked = ExperimentSpec.model_validate(spec)
    except ValidationError:  # of another version: its results can be looked at all the same
        checked = None
    for item in items:
        item.label = _label(checked, item.params)
    return items


def _label(spec: ExperimentSpec | None, params: Mapping[str, Any]) -> str:
    if spec is not None:
        try:
            return trial_label(spec, dict(params))
        except (ValueError, KeyError):  # values of another version
            pass
    return ", ".join(f"{path}={value}" for path, value in params.items())
