"""What is wrong with a spec, in words that name the field and say what is allowed.

Owns the problems and how pydantic's errors become problems. Does not own what is checked (parsing.py and the sections).
"""

import difflib
import functools
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from adadim_core.spec.experiment import ExperimentSpec
from adadim_core.spec.space import DISTRIBUTIONS

MAX_PROBLEMS = 20
"""More than this are not listed."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec."""

    pointer: str
    """JSON Pointer (RFC 6901) to the field; empty for the whole document."""
    message: str
    """What is wrong and what is allowed."""


class SpecError(ValueError):
    """The spec is not valid. `problems` lists what is wrong, field by field."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{p.pointer or 'spec'}: {p.message}" for p in self.problems))

    def in_file(self, name: str) -> str:
        """The same for people who have several specs: with the name of the one that is wrong."""
        return f"{name}: " + "; ".join(f"{p.pointer}: {p.message}" if p.pointer else p.message for p in self.problems)


def problems_of(error: ValidationError, document: Any) -> list[Problem]:
    """The errors of one validation, those about the same field joined into one."""
    messages: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False)[:MAX_PROBLEMS]:
        path = _path(detail, document)
        messages.setdefault("".join("/" + escape(step) for step in path), []).append(_message(detail))
    return [Problem(pointer, " or ".join(found)) for pointer, found in messages.items()]


def _path(detail: ErrorDetails, document: Any) -> list[str]:
    """Where in the document an error is: pydantic's location without the names of union members it puts in."""
    path: list[str] = []
    node = document
    location = list(detail["loc"])
    if location[:2] == ["search", "space"]:
        del location[3:4]  # the distribution's kind, which reads like the field of that name
    for depth, step in enumerate(location):
        is_key = isinstance(node, dict) and step in node
        is_index = isinstance(node, list) and isinstance(step, int) and step < len(node)
        if is_key or is_index:
            node = node[step]
        elif detail["type"] != "missing" or depth < len(location) - 1:
            continue
        path.append(str(step))
    if detail["type"] == "union_tag_invalid":
        path.append(detail["ctx"]["discriminator"].strip("'"))
    return path


def _message(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        name, fields = str(detail["loc"][-1]), _fields_at(detail["loc"][:-1])
        allowed = f"; allowed: {', '.join(fields)}" if fields else ""
        return f"unknown field {name!r}{allowed}{did_you_mean(name, fields)}"
    if kind == "missing":
        return "this field is required"
    if kind == "union_tag_invalid":
        expected = detail["ctx"]["expected_tags"]
        return f"should be one of {expected}, not {shorten(detail['ctx']['tag'])}"
    if kind == "unknown_distribution" and (nested := _nested_distribution(str(detail["loc"][-1]), value)):
        return f"a search path is one dotted name; write {nested}"
    if kind == "union_tag_not_found":
        return f"needs {detail['ctx']['discriminator'].strip(chr(39))}, which says the kind of this section"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message if isinstance(value, dict | list) else f"{message}, not {shorten(value)}"


def _nested_distribution(path: str, value: Any) -> str | None:
    """A distribution that stands within nested sections, as it should be written."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict) and inner.keys() & set(DISTRIBUTIONS):
            return f"{path}.{name}: {spelt(inner)}"
        if found := _nested_distribution(f"{path}.{name}", inner):
            return found
    return None


def spelt(value: Any) -> str:
    """A value as it may stand in a spec, in one line."""
    shown = yaml.safe_dump(
        _beginning(value), default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    shown = shown.removesuffix("...\n").strip()
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _beginning(value: Any) -> Any:
    """As much of a value as a line can show, and a little more: writing YAML is slow."""
    if isinstance(value, dict):
        return {name: _beginning(value[name]) for name in itertools.islice(value, 20)}
    if isinstance(value, list):
        return [_beginning(item) for item in value[:20]]
    return value[:100] if isinstance(value, str) else value


def shorten(value: Any) -> str:
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at a pydantic error location, from the JSON Schema."""
    schema = _schema()
    definitions: dict[str, Any] = schema["$defs"]

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
        options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
        return resolve(options[0]) if len(options) == 1 else node

    node = schema
    for step in location:
        tags = node.get("discriminator", {}).get("mapping", {})
        node = resolve({"$ref": tags[step]} if step in tags else node.get("properties", {}).get(step, {}))
    return list(node.get("properties", {}))


@functools.cache
def _schema() -> dict[str, Any]:
    return ExperimentSpec.model_json_schema()


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def did_you_mean_path(path: str, paths: Iterable[str]) -> str:
    """A hint for a dotted path that does not exist: one that ends alike, or one that looks alike."""
    paths = list(paths)
    ends = "." + path.rpartition(".")[2]
    alike = [known for known in paths if known.endswith(ends)] or difflib.get_close_matches(path, paths, n=1)
    return f" (did you mean {alike[0]!r}?)" if alike else ""


def escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
