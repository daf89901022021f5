"""From text to a validated spec, with errors that name the field and say what is allowed.

Text is untrusted: its size, nesting and YAML features are bounded before anything is built from it.
"""

import difflib
import functools
import itertools
import json
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adadim_core.spec.experiment import ExperimentSpec, set_paths
from adadim_core.spec.search import MAX_TRIALS, SearchSpec, plan_trials
from adadim_core.spec.space import combinations, extremes

MAX_SPEC_BYTES = 64 * 1024
_MAX_DEPTH = 32
_MAX_PROBLEMS = 20
_TPE_SAMPLES = 100


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


def parse_spec(
    text: str | bytes, *, syntax: Literal["yaml", "json"] = "yaml", own_data: bool = False
) -> ExperimentSpec:
    """Read a spec from YAML or JSON text.

    Args:
        text: the document.
        syntax: how it is written.
        own_data: it is for `Trainer(spec, data=...)`: how many images the set it names has does not matter.

    Raises:
        SpecError: the text is too large, is not UTF-8, does not parse, or is not a valid spec.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_SPEC_BYTES:
        raise SpecError([Problem("", f"{len(raw)} bytes; a spec has at most {MAX_SPEC_BYTES}")])
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError([Problem("", f"not UTF-8 text (byte {error.start})")]) from None
    try:
        document = _load_json(decoded) if syntax == "json" else _load_yaml(decoded)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise SpecError([Problem("", f"not valid YAML: {error.problem}{where}")]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError([Problem("", f"not valid {syntax.upper()}: {str(error)[:300]}")]) from None
    except RecursionError:
        raise SpecError([Problem("", f"nested deeper than {_MAX_DEPTH} levels")]) from None
    return validate_spec(document, own_data=own_data)


def validate_spec(document: Any, *, own_data: bool = False) -> ExperimentSpec:
    """Check a parsed document, its search paths and every planned trial.

    Raises:
        SpecError: it is not a valid spec.
    """
    if _depth(document) > _MAX_DEPTH:
        raise SpecError([Problem("", f"nested deeper than {_MAX_DEPTH} levels")])
    if not isinstance(document, dict):
        raise SpecError([Problem("", "a spec is a mapping of fields; the smallest is {name: my-experiment}")])
    if unstorable := list(itertools.islice(_unstorable(document), _MAX_PROBLEMS)):
        raise SpecError(unstorable)
    try:
        spec = ExperimentSpec.model_validate(document, context={"own_data": own_data})
    except ValidationError as error:
        raise SpecError(_problems(error, document)) from None
    size = len(compact(spec.model_dump(mode="json")).encode())
    if size > MAX_SPEC_BYTES:  # it travels in one environment variable, of which Linux takes 128 KiB
        raise SpecError([Problem("", f"{size} bytes with its defaults; a spec has at most {MAX_SPEC_BYTES}")])
    if spec.search is not None:
        _check_search(spec, spec.search)
    return spec


def compact(fields: Mapping[str, Any]) -> str:
    """A spec's fields as the JSON text that its job gets: the one whose size is bounded."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _check_search(spec: ExperimentSpec, search: SearchSpec) -> None:
    """Every path exists, every bound and choice validates where it goes, and so does every planned trial."""
    problems: list[Problem] = []
    for path, distribution in search.space.items():
        pointer = "/search/space/" + _escape(path)
        missing = _missing_path(spec, path)
        if missing is not None:
            problems.append(Problem(pointer, missing))
            continue
        for value in itertools.islice(extremes(distribution), MAX_TRIALS):
            # What contradicts another field only (warm-up longer than training) the trials below decide.
            problems += _trial_problems(spec, {path: value}, pointer, within="/" + path.replace(".", "/"))
            if len(problems) >= _MAX_PROBLEMS:
                raise SpecError(problems[:_MAX_PROBLEMS])
    if not problems:
        for name, params in _candidates(search):
            problems += _trial_problems(spec, params, "/search/space", f"{name}: ")
            if len(problems) >= _MAX_PROBLEMS:
                break
    if problems:
        raise SpecError(problems[:_MAX_PROBLEMS])


def _candidates(search: SearchSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every planned trial. Where TPE has yet to choose: corners of the space and draws from all over it."""
    plans = plan_trials(search)
    yield from ((f"trial {plan.number}", plan.params) for plan in plans if plan.params)
    if all(plan.params for plan in plans):
        return
    yield from (("a possible trial", params) for params in itertools.islice(combinations(search.space), _TPE_SAMPLES))
    rng = random.Random(search.seed)
    for _ in range(_TPE_SAMPLES):
        yield "a possible trial", search.assignment(lambda _, d: d.at(rng.random()))


def _trial_problems(
    spec: ExperimentSpec, params: dict[str, Any], pointer: str, prefix: str = "", within: str = ""
) -> list[Problem]:
    """What is wrong with a trial; `within` keeps what is wrong at or below that pointer only."""
    fields = spec.model_dump(mode="json", exclude={"search"})  # a search lists thousands of values, this runs for each
    set_paths(fields, params)
    try:
        ExperimentSpec.model_validate(fields, context=spec.context)
    except ValidationError as error:
        values = ", ".join(f"{path} = {_shorten(value)}" for path, value in params.items())
        return [
            Problem(pointer, f"{prefix}{values} is not allowed: {p.message}")
            for p in _problems(error, fields)
            if p.pointer.startswith(within)
        ]
    return []


def _missing_path(spec: ExperimentSpec, path: str) -> str | None:
    """Why a search path cannot be set, or None if it can."""
    section: Any = spec
    parts = path.split(".")
    if parts[0] not in ("data", "model", "objective", "training", "evaluation"):
        allowed = "data, model, objective, training or evaluation"
        return f"a search path starts with {allowed}" + _did_you_mean(parts[0], allowed.replace(",", "").split())
    for depth, part in enumerate(parts):
        fields = list(type(section).model_fields) if isinstance(section, BaseModel) else []
        if part not in fields:
            parent = ".".join(parts[:depth])
            has = f"it has {', '.join(fields)}" if fields else "it has no fields"
            hint = _did_you_mean(part, fields)
            policy = getattr(section, "policy", None) or getattr(section, "name", None)
            kind = f" (here: {policy})" if policy and depth else ""
            return f"{parent}{kind} has no field {part!r}; {has}{hint}"
        section = getattr(section, part)
    return None


def _problems(error: ValidationError, document: Any) -> list[Problem]:
    """The errors of one validation, those about the same field joined into one."""
    messages: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False)[:_MAX_PROBLEMS]:
        path = _path(detail, document)
        messages.setdefault("".join("/" + _escape(step) for step in path), []).append(_message(detail))
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
        return f"unknown field {name!r}{allowed}{_did_you_mean(name, fields)}"
    if kind == "missing":
        return "this field is required"
    if kind == "union_tag_invalid":
        expected = detail["ctx"]["expected_tags"]
        return f"should be one of {expected}, not {_shorten(detail['ctx']['tag'])}"
    if kind == "union_tag_not_found":
        return f"needs {detail['ctx']['discriminator'].strip(chr(39))}, which says the kind of this section"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message if isinstance(value, dict | list) else f"{message}, not {_shorten(value)}"


def _shorten(value: Any) -> str:
    shown = json.dumps(value, default=str)
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


def _did_you_mean(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _depth(document: Any) -> int:
    """Nesting depth, measured without recursion and given up just past the limit."""
    level, depth = [document], 0
    while level and depth <= _MAX_DEPTH:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth


def _unstorable(node: Any, pointer: str = "") -> Iterator[Problem]:
    """Text and numbers that a database or another program could not take."""
    if isinstance(node, str):
        if "\0" in node:
            yield Problem(pointer, "text contains a NUL character")
        elif any("\ud800" <= character <= "\udfff" for character in node):
            yield Problem(pointer, "text contains half a surrogate pair, which is not Unicode text")
    elif isinstance(node, int):
        if not -(2**63) <= node < 2**63:
            yield Problem(pointer, "a whole number has at most 64 bits")
    elif isinstance(node, float):
        if 2**63 <= abs(node) < math.inf:  # a database gives it back as a whole number
            yield Problem(pointer, "a number is smaller than 2^63")
    elif isinstance(node, dict):
        for key, value in node.items():
            wrong = list(_unstorable(key, pointer))
            yield from wrong or _unstorable(value, f"{pointer}/{_escape(str(key))}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _unstorable(value, f"{pointer}/{index}")


def _load_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
            raise ValueError(f"{twice!r} is set twice")
        return fields

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _SpecLoader)  # noqa: S506 - safe, and stricter than SafeLoader


_Events: Any = yaml.cyaml.CParser  # type: ignore[attr-defined]  # the stubs leave it out


class _SpecLoader(yaml.composer.Composer, _Events, yaml.constructor.SafeConstructor, yaml.resolver.Resolver):  # type: ignore[misc]
    """Safe YAML without tags, without duplicate keys, and without aliases, a few lines of which expand to gigabytes.

    libyaml, which every wheel of PyYAML brings, reads the text: five times as fast as the parser in Python.
    """

    def __init__(self, stream: str) -> None:
        _Events.__init__(self, stream)
        yaml.composer.Composer.__init__(self)
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.Resolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed in a spec", mark)
        if event.tag is not None:
            raise yaml.composer.ComposerError(None, None, f"tags, as {event.tag}, are not allowed in a spec", mark)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_MAX_DEPTH} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "field names must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is set twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# The core schema of YAML 1.2. PyYAML follows YAML 1.1, where 1e-3 is text, 010 is 8, 1:30 is 90 and `no` is false.
# JSON's types only: a date in a spec is a mistake, and stays the text it looks like. Every pattern takes linear time.
_SpecLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    _SpecLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_SpecLoader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))
