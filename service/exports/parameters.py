"""What trials have set, as columns: their configuration, their seed, and a column for every swept field.

A field that is a whole section is a column of words, as "fixed 0.5", and one for each field of the section. Knows
nothing of the database's rows but the trials.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from adadim_core.answers.configurations import canonical
from adadim_core.spec import ExperimentSpec, trial_label, value_label
from adadim_core.spec.plan import configuration_of
from adadim_core.spec.seeds import SEED_PATH
from service.database.tables import Trial


def parameter_table(fields: Mapping[str, Any], trials: Sequence[Trial]) -> pa.Table:
    """One row a trial, in their order: trial, configuration, configuration_label, seed, and the swept fields by path.

    `configuration` is the number the answer gives it; null while its values are not chosen yet.

    Args:
        fields: the experiment's stored spec, also of a version that is not valid any more.
    """
    try:
        spec = ExperimentSpec.model_validate(fields)
    except ValidationError:
        spec = None
    words = _Words(spec)
    alone = set((fields.get("search") or {}).get("space", {})) <= {SEED_PATH}
    numbers: dict[str, int] = {}
    configurations: list[int | None] = []
    rows: list[dict[str, Any]] = []
    for trial in trials:
        values = configuration_of(trial.params)
        known = alone or bool(values)
        configurations.append(numbers.setdefault(canonical(values), len(numbers)) if known else None)
        rows.append({path: cell for name in trial.params for path, cell in words.cells(trial.params, name)})
    seeds = [trial.params.get(SEED_PATH, fields.get("training", {}).get("seed")) for trial in trials]
    return pa.table(
        {
            "trial": pa.array([trial.number for trial in trials], pa.int32()),
            "configuration": pa.array(configurations, pa.int32()),
            "configuration_label": pa.array([words.label(trial.params) for trial in trials], pa.string()),
            "seed": pa.array(seeds, pa.int64()),
            **{
                path: _column([row.get(path) for row in rows])
                for path in sorted({path for row in rows for path in row})
            },
        }
    )


class _Words:
    """Labels of values, each made once: a sweep repeats them with every seed."""

    def __init__(self, spec: ExperimentSpec | None) -> None:
        self._spec = spec
        self._made: dict[str, str] = {}

    def label(self, params: dict[str, Any]) -> str:
        """A configuration in words."""
        values = configuration_of(params)
        return self._once(canonical(values), lambda spec: trial_label(spec, values), values)

    def cells(self, params: dict[str, Any], path: str) -> list[tuple[str, Any]]:
        """The columns of one value with what stands in them."""
        value = params[path]
        if not isinstance(value, dict):
            return [(path, value if isinstance(value, str | int | float) or value is None else json.dumps(value))]
        key = canonical({path: value})
        words = self._once(key, lambda spec: value_label(spec, params, path), value)
        return [(path, words), *_leaves(path, value)]

    def _once(self, key: str, make: Any, value: Any) -> str:
        if key not in self._made:
            try:
                self._made[key] = json.dumps(value) if self._spec is None else make(self._spec)
            except (ValueError, KeyError, TypeError, AttributeError):  # values of an earlier version
                self._made[key] = json.dumps(value)
        return self._made[key]


def _leaves(path: str, section: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in section.items():
        inner = f"{path}.{name}"
        if isinstance(value, dict):
            found += _leaves(inner, value)
        else:
            found.append((inner, value if isinstance(value, str | int | float) or value is None else json.dumps(value)))
    return found


def _column(values: list[Any]) -> pa.Array:
    """Numbers as numbers where all are, else texts."""
    there = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in there):
        return pa.array(values, pa.bool_())
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        whole = all(isinstance(value, int) and abs(value) < 2**63 for value in there)
        return pa.array(values, pa.int64()) if whole else pa.array([v if v is None else float(v) for v in values])
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())
