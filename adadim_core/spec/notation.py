"""The notation of specs: text to plain values (mappings, lists, text, numbers, true, false, null).

Owns the notations, YAML 1.2 and JSON, and their bounds. Text is untrusted: its size, nesting and YAML features are
bounded before anything is built from it. Does not own what the values mean (parsing.py).
"""

import codecs
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from adadim_core.spec.problems import MAX_PROBLEMS, Problem, SpecError, escape

MAX_SPEC_BYTES = 64 * 1024
MAX_DEPTH = 32

Syntax = Literal["yaml", "json"]


def load(text: str | bytes, syntax: Syntax = "yaml") -> Any:
    """The values of a text.

    Raises:
        SpecError: the text is too large, is not UTF-8, or does not parse.
    """
    decoded = decode(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        return _load_json(decoded) if syntax == "json" else _load_yaml(decoded)
    except yaml.MarkedYAMLError as error:
        raise SpecError([Problem("", f"not valid YAML: {error.problem}{_place(error, decoded)}")]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError([Problem("", f"not valid {syntax.upper()}: {str(error)[:300]}")]) from None
    except RecursionError:
        raise SpecError([Problem("", f"nested deeper than {MAX_DEPTH} levels")]) from None


def decode(raw: bytes) -> str:
    """The characters of a text.

    Raises:
        SpecError: it is too large, or is not UTF-8.
    """
    if len(raw) > MAX_SPEC_BYTES:
        raise SpecError([Problem("", f"{len(raw)} bytes; a spec has at most {MAX_SPEC_BYTES}")])
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw[:4]:
        raise SpecError([Problem("", "UTF-16 or UTF-32 text, as PowerShell's > writes; save it as UTF-8")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode()) + 1
        what = f"not UTF-8 text: byte 0x{raw[error.start]:02x} at line {line}, column {column}"
        raise SpecError([Problem("", f"{what}; save it as UTF-8")]) from None


def load_value(text: str) -> Any:
    """The value of a field given as text, exactly as in a YAML spec that has the text after the field's name.

    Raises:
        SpecError: a spec could not have it there in one line.
    """
    try:
        if "\n" in text:
            raise ValueError("more than one line")
        value = _load_yaml(f"value: {text}")["value"]
    except yaml.MarkedYAMLError as error:
        raise SpecError([Problem("", f"not a value in YAML: {error.problem}; quote it if it is text")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError([Problem("", f"not a value in YAML: {str(error)[:300]}")]) from None
    if unstorable := list(itertools.islice(_unstorable(value), MAX_PROBLEMS)):
        raise SpecError(unstorable)
    return value


def check_document(document: Any) -> None:
    """Whether values may make up a spec at all: they are bounded, and a database and other programs can take them.

    Raises:
        SpecError: they are nested too deeply, are not a mapping, or hold text or numbers that cannot be stored.
    """
    if _depth(document) > MAX_DEPTH:
        raise SpecError([Problem("", f"nested deeper than {MAX_DEPTH} levels")])
    if not isinstance(document, dict):
        raise SpecError([Problem("", "a spec is a mapping of fields; the smallest is {name: my-experiment}")])
    if unstorable := list(itertools.islice(_unstorable(document), MAX_PROBLEMS)):
        raise SpecError(unstorable)


def _depth(document: Any) -> int:
    """Nesting depth, measured without recursion, up to just above the limit."""
    level, depth = [document], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth


def _unstorable(node: Any, pointer: str = "") -> Iterator[Problem]:
    """Text and numbers that a database or another program could not hold."""
    if isinstance(node, str):
        if "\0" in node:
            yield Problem(pointer, "text contains a NUL character")
        elif any("\ud800" <= character <= "\udfff" for character in node):
            yield Problem(pointer, "text contains half a surrogate pair, which is not Unicode text")
    elif isinstance(node, int):
        if not -(2**63) <= node < 2**63:
            yield Problem(pointer, "a whole number must fit 64 bits")
    elif isinstance(node, float):
        if 2**63 <= abs(node) < math.inf:  # a database gives it back as a whole number
            yield Problem(pointer, "a number must be smaller than 2^63")
    elif isinstance(node, dict):
        for key, value in node.items():
            wrong = list(_unstorable(key, pointer))
            yield from wrong or _unstorable(value, f"{pointer}/{escape(str(key))}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _unstorable(value, f"{pointer}/{index}")


def _place(error: yaml.MarkedYAMLError, text: str) -> str:
    """Where YAML could not be read, with the most frequent cause."""
    mark = error.problem_mark
    if mark is None:
        return ""
    lines = text.split("\n")
    tab = mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]
    hint = "; YAML is indented with spaces, not with tabs" if tab else ""
    return f" at line {mark.line + 1}, column {mark.column + 1}{hint}"


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


# What word processors and web pages put where a space was typed. To YAML they are letters of the field's name.
_ODD_SPACES = frozenset("\u00a0\u2002\u2003\u2007\u2009\u200b\u202f\u3000\ufeff")

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
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "field names must be text", key.start_mark)
            if odd := next((character for character in key.value if character in _ODD_SPACES), None):
                name = unicodedata.name(odd).lower()
                raise yaml.constructor.ConstructorError(
                    None, None, f"a {name} (U+{ord(odd):04X}) stands where a space is needed", key.start_mark
                )
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
