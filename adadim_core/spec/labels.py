"""How a trial is called where people read it: its weighting, and what else tells it from its siblings."""

from typing import Any

from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.objective import CosineWeighting, FixedWeighting, LinearWeighting, Weighting

_WEIGHTING = "objective.weighting"


def trial_label(spec: ExperimentSpec, params: dict[str, Any]) -> str:
    """A trial in words, as "fixed 0.5", "adaptive" or "adaptive, gamma=0.1".

    Args:
        spec: the experiment's spec.
        params: the trial's values by dotted path, as in `TrialPlan.params`.
    """
    others = {path: value for path, value in params.items() if not path.startswith(_WEIGHTING)}
    words = [f"{path.rpartition('.')[2]}={_value(value)}" for path, value in others.items()]
    return ", ".join([_weighting(spec.with_params(params).objective.weighting), *words])


def _weighting(weighting: Weighting) -> str:
    match weighting:
        case FixedWeighting(alpha=alpha):
            return f"fixed {alpha:.3g}"
        case LinearWeighting(start=start, end=end) | CosineWeighting(start=start, end=end):
            return f"{weighting.policy} {start:.3g} to {end:.3g}"
        case _:
            return weighting.policy


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
