"""The label of a trial: its weighting, and what else distinguishes it from the other trials.

Owns how labels are composed. The words of a kind are defined with the kind.
"""

from collections.abc import Mapping
from typing import Any

from adadim_core.spec.backbones import BACKBONES
from adadim_core.spec.base import KIND_FIELDS, Kind
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.plan import configuration_of, planned_seeds
from adadim_core.spec.seeds import SEED_PATH

_WEIGHTING = "objective.weighting"
_TITLES = {
    "model.backbone": {name: backbone.title for name, backbone in BACKBONES.items()},
    "data.dataset": {name: dataset.title for name, dataset in DATASETS.items()},
}


def trial_label(spec: ExperimentSpec, params: dict[str, Any]) -> str:
    """A trial in words, as "fixed 0.5", "adaptive, gamma=0.1" or "adaptive, seed 3".

    Values that TPE has yet to choose are "not chosen yet". The label of a configuration is that of a trial without a
    seed.

    Args:
        spec: the experiment's spec.
        params: the trial's values by dotted path, as in `TrialPlan.params`.
    """
    seed = f"seed {params[SEED_PATH]}" if SEED_PATH in params and _seeds_differ(spec) else ""
    values = configuration_of(params)
    if spec.search is not None and not values and list(spec.search.space) != [SEED_PATH]:
        return ", ".join(filter(None, ("not chosen yet", seed)))
    trial = spec.with_params(values)
    weighting = trial.objective.weighting
    words = [weighting.label()]
    for path, value in sorted(values.items()):
        if path == _WEIGHTING:
            words += _settings(value, weighting)
        elif path == "objective":  # the weighting is said already
            others = {name: other for name, other in value.items() if name != "weighting"}
            words += _settings(value.get("weighting", {}), weighting)
            words += [f"{name}={_value(other)}" for name, other in others.items()]
        elif path.startswith(_WEIGHTING + "."):
            words += _settings({path.removeprefix(_WEIGHTING + "."): value}, weighting)
        else:
            words.append(_words(trial, path, value))
    return ", ".join([*words, seed] if seed else words)


def value_label(spec: ExperimentSpec, params: dict[str, Any], path: str) -> str:
    """One value of a trial that is a whole section, in words, as "fixed 0.5" or "Barlow Twins (redundancy=0.01)".

    Args:
        spec: the experiment's spec.
        params: the trial's values by dotted path.
        path: one of them.

    Raises:
        ValueError, KeyError: the values do not fit the spec.
    """
    return _words(spec.with_params(configuration_of(params)), path, params[path])


def _seeds_differ(spec: ExperimentSpec) -> bool:
    """Whether a seed tells trials apart."""
    search = spec.search
    return search is None or SEED_PATH in search.space or len(planned_seeds(spec)) > 1


def _words(trial: ExperimentSpec, path: str, value: Any) -> str:
    section: Any = trial
    for name in path.split("."):
        section = getattr(section, name)
    if isinstance(section, Kind):
        settings = _settings(value, section)
        return f"{section.label()} ({', '.join(settings)})" if settings else section.label()
    if path in _TITLES:
        return _TITLES[path][value]
    return f"{path.rpartition('.')[2]}={_value(value)}"


def _settings(values: Mapping[str, Any], kind: Kind) -> list[str]:
    """The settings of a kind that its label does not say."""
    said = {*KIND_FIELDS, *kind.labelled}
    return [f"{name}={_value(value)}" for name, value in values.items() if name not in said]


def _value(value: Any) -> str:
    if isinstance(value, dict):  # a section: its kind, and what else it sets
        kind = next((value[name] for name in KIND_FIELDS if name in value), "")
        fields = [f"{name}={_value(found)}" for name, found in value.items() if name not in KIND_FIELDS]
        return f"{kind}({', '.join(fields)})" if fields else str(kind)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
