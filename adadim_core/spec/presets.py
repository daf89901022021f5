"""Presets: settings under a name, which fill in what a spec leaves out.

Owns their values and how they are filled in. A preset is used up where a spec is first read (experiment.py): what is
stored has every value, so that another value here changes no experiment that exists. The source of each value is in
docs/method.md.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adadim_core.spec.base import KIND_FIELDS

_KINDS = (*KIND_FIELDS, "form")
"""A section that says another kind than the preset's takes nothing from it: their settings mean different things."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings that belong together."""

    name: str
    """What `preset` calls it."""
    description: str
    """What it stands for, in one line."""
    values: Mapping[str, Any]
    """Sections of a spec, as they are written in one."""


_TABLE = (
    Preset(
        name="paper",
        description="what the paper is believed to do, as far as text says",
        values={
            "model": {"backbone": "resnet18", "projector": {"layers": 3, "hidden": 2048, "out": 2048}},
            "objective": {
                "dimension_loss": {"name": "vicreg"},
                "sample_loss": {"name": "nt_xent"},
                "weighting": {"policy": "adaptive", "normalizer": "dim", "rows": None, "batches": 1},
                "form": "two_losses",
                "mutual_information": {"sign": "penalize", "schedule": "follow"},
            },
            "training": {"epochs": 400, "batch_size": 256, "optimizer": "lars", "lr": 0.3, "weight_decay": 1e-4},
            "evaluation": {"linear_probe": "online"},
        },
    ),
    Preset(
        name="best",
        description="the defaults, but for what docs/study tells to be better: temperature 0.1",
        values={
            "objective": {
                "sample_loss": {"name": "nt_xent", "temperature": 0.1},
                "weighting": {"policy": "adaptive", "normalizer": "min", "rows": None, "batches": 4},
                "balancing": "none",
                "form": "two_losses",
                "mutual_information": {
                    "gamma": 0.1, "order": 2.0, "sign": "penalize", "schedule": "follow", "lag_epochs": 0,
                },
            },
        },
    ),
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _TABLE}
"""Every preset by name."""

if TYPE_CHECKING:
    PresetName = str
else:  # a Literal, so that JSON Schema and error messages list the names
    PresetName = Literal[tuple(PRESETS)]


def filled_in(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's document with what it leaves out from a preset's values.

    What the document says stays. In a search, each section that a space or a point names is filled in like the one
    whose place it takes.
    """
    filled: dict[str, Any] = _under(document, values)
    search = document.get("search")
    if isinstance(search, dict):
        filled["search"] = search = dict(search)
        if isinstance(space := search.get("space"), dict):
            search["space"] = _at_paths(space, document, values)
        if isinstance(points := search.get("points"), list):
            search["points"] = [
                _at_paths(point, document, values) if isinstance(point, dict) else point for point in points
            ]
    return filled


def extent(node: Any) -> int:
    """Fields and values of a document together: a preset may fill in each of a thousand alternatives."""
    if isinstance(node, Mapping):
        return 1 + len(node) + sum(map(extent, node.values()))
    return 1 + sum(map(extent, node)) if isinstance(node, list) else 1


def departures(
    values: Mapping[str, Any], fields: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Where a spec's fields are not those of a preset: dotted path, the preset's value, the spec's own.

    Fields that a section of another kind does not have are passed over: the kind says it.
    """
    for name in (name for name in values if name in fields):
        value, own = values[name], fields[name]
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            yield from departures(value, own, f"{prefix}{name}.")
        elif own != value:
            yield prefix + name, value, own


def _at_paths(given: Mapping[str, Any], document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a space or a point by dotted path, each with what it leaves out of the section at its path.

    A path through a section that is of another kind in the document leads to nothing of the preset's.
    """

    def at(path: str) -> Any:
        said: Any = document
        section: Any = values
        for name in path.split("."):
            if not isinstance(section, Mapping) or _of_another_kind(said, section):
                return None
            said, section = said.get(name) if isinstance(said, Mapping) else None, section.get(name)
        return section

    return {path: _under(value, at(str(path))) for path, value in given.items()}


def _under(given: Any, values: Any) -> Any:
    """A section with what it leaves out; each alternative of a choice by itself; anything else as it is."""
    if not isinstance(given, Mapping) or not isinstance(values, Mapping):
        return given
    if list(given) == ["choice"] and isinstance(given["choice"], list):
        return {"choice": [_under(alternative, values) for alternative in given["choice"]]}
    if _of_another_kind(given, values):
        return given
    left_out = {name: copy.deepcopy(value) for name, value in values.items() if name not in given}
    return {name: _under(value, values.get(name)) for name, value in given.items()} | left_out


def _of_another_kind(given: Any, values: Mapping[str, Any]) -> bool:
    return isinstance(given, Mapping) and any(
        name in given and given[name] != values[name] for name in _KINDS if name in values
    )
