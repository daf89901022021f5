"""Trials as the API shows them: their rows, and what they are called."""

import contextlib
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from adadim_core.spec import ExperimentSpec, trial_label
from adadim_core.spec.experiment import set_paths
from service.database.tables import Trial
from service.trials.schemas import TrialDetail, TrialRead


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


def detailed(trial: Trial, spec: Mapping[str, Any]) -> TrialDetail:
    """A trial with its whole configuration."""
    fields = {name: copy.deepcopy(value) for name, value in spec.items() if name != "search"}
    with contextlib.suppress(KeyError):  # a path of another version: the values stand in `params`
        set_paths(fields, trial.params)
    return TrialDetail(**shown([trial], spec)[0].model_dump(), spec=fields)


def _label(spec: ExperimentSpec | None, params: Mapping[str, Any]) -> str:
    if spec is not None:
        try:
            return trial_label(spec, dict(params))
        except (ValueError, KeyError):  # values of another version
            pass
    return ", ".join(f"{path}={value}" for path, value in params.items())
