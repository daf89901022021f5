"""How a trial is called where people read it: its weighting, and what else tells it from its siblings."""

from typing import Any

from adadim_core.spec.base import KIND_FIELDS
from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.objective import CosineWeighting, FixedWeighting, LinearWeighting, Weighting

_WEIGHTING = "objective.weighting"
_SHOWN = {"policy", "alpha", "start", "end"}
"""Fields of the weighting that its own words say already."""


def trial_label(spec: ExperimentSpec, params: dict[str, Any]) -> str:
    """A trial in words, as "fixed 0.5", "adaptive" or "adaptive, gamma=0.1".

    Values that TPE has yet to choose are "not chosen yet".

    Args:
        spec: the experiment's spec.
        params: the trial's values by dotted path, as in `TrialPlan.params`.
    """
    if spec.search is not None and not params:
        return "not chosen yet"
    words = [_weighting(spec.with_params(params).objective.weighting)]
    for path, value in sorted(params.items()):
        fields = value if path == _WEIGHTING else {path.rpartition(".")[2]: value}
        said = _SHOWN if path.startswith(_WEIGHTING) else ()
        words += [f"{name}={_value(found)}" for name, found in fields.items() if name not in said]
    return ", ".join(words)


def _weighting(weighting: Weighting) -> str:
    match weighting:
        case FixedWeighting(alpha=alpha):
            return f"fixed {alpha:.3g}"
        case LinearWeighting(start=start, end=end) | CosineWeighting(start=start, end=end):
            return f"{weighting.policy} {start:.3g} to {end:.3g}"
        case _:
            return "adaptive" if weighting.normalizer == "min" else f"adaptive ({weighting.normalizer})"


def _value(value: Any) -> str:
    if isinstance(value, dict):  # a section: its kind, and what else it sets
        kind = next((value[name] for name in KIND_FIELDS if name in value), "")
        fields = [f"{name}={_value(found)}" for name, found in value.items() if name not in KIND_FIELDS]
        return f"{kind}({', '.join(fields)})" if fields else str(kind)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
