"""The swept fields: what configurations differ in, one value each, under names that are short and told apart.

Owns names and values of fields. A section of several kinds is a field whose value is its kind; each of its settings is
a field of its own, which only configurations of such a kind have.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adadim_core.answers.configurations import canonical
from adadim_core.answers.document import SweptField
from adadim_core.spec.base import KIND_FIELDS


def swept_fields(params: Sequence[Mapping[str, Any]]) -> tuple[list[SweptField], list[dict[str, Any]]]:
    """The fields that differ, and the values of each configuration by their names.

    Args:
        params: of every configuration, dotted spec path to value.
    """
    flat = [_flat(of_one) for of_one in params]
    paths = [path for path in dict.fromkeys(path for of_one in flat for path in of_one) if _differs(flat, path)]
    names = _names(paths)
    values = [{names[path]: of_one[path] for path in paths if path in of_one} for of_one in flat]
    fields = [
        SweptField(
            name=names[path],
            path=path,
            numeric=all(_is_number(of_one[path]) for of_one in flat if path in of_one),
            within=_within(flat, path, paths, names),
        )
        for path in paths
    ]
    return fields, values


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path to a value that is no section; a section of a kind has the kind at its own path."""
    found: dict[str, Any] = {}
    for path, value in params.items():
        if not isinstance(value, Mapping):
            found[path] = value if isinstance(value, str | int | float | bool) else canonical({"": value})[5:-1]
            continue
        kind = next((name for name in KIND_FIELDS if name in value), None)
        if kind is not None:
            found[path] = value[kind]
        found |= _flat({f"{path}.{name}": part for name, part in value.items() if name != kind})
    return found


def _differs(flat: Sequence[Mapping[str, Any]], path: str) -> bool:
    return len({canonical({"": of_one[path]}) if path in of_one else None for of_one in flat}) > 1


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Of each path the last parts, as many as tell it from the others."""
    names = {path: path.rpartition(".")[2] for path in paths}
    for parts in range(2, 1 + max((path.count(".") + 1 for path in paths), default=1)):
        shared = {name for name, count in Counter(names.values()).items() if count > 1}
        names |= {path: ".".join(path.split(".")[-parts:]) for path in paths if names[path] in shared}
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(flat: Sequence[Mapping[str, Any]], path: str, paths: Sequence[str], names: Mapping[str, str]) -> str | None:
    """The branch that has the field, as "weighting=fixed"; None if every configuration has it."""
    having = [of_one for of_one in flat if path in of_one]
    if len(having) == len(flat):
        return None
    lacking = [of_one for of_one in flat if path not in of_one]
    for other in paths:
        kinds = [of_one.get(other) for of_one in having]
        if all(isinstance(kind, str) for kind in kinds) and not {of_one.get(other) for of_one in lacking} & {*kinds}:
            return f"{names[other]}={'|'.join(sorted({str(kind) for kind in kinds}))}"
    return "where it is set"
