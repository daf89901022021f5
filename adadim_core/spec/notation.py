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
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from adadim_core.spec.base import MAX_VALUES
from adadim_core.spec.problems import MAX_PROBLEMS, Problem, SpecError, escape

MAX_SPEC_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_NAME = 200
"""Characters of a field's name; the longest path of the spec has a fifth of it."""

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
        SpecError: they are nested too deeply or too many, are not a mapping, or hold text or numbers that cannot be
            stored.
    """
    _check_extent(document)
    if not isinstance(document, dict):
        raise SpecError([Problem("", "a spec is a mapping of fields; the smallest is {name: my-experiment}")])
    if unstorable := list(itertools.islice(_unstorable(document), MAX_PROBLEMS)):
        raise SpecError(unstorable)


def _check_extent(document: Any) -> None:
    """Whether values are few and flat enough to be looked at, found without recursion.

    Raises:
        SpecError: there are too many, or they are nested too deeply.
    """
    level, depth, count = [document], 0, 1
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise SpecError([Problem("", f"nested deeper than {MAX_DEPTH} levels")])
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                if long := next((name for name in node if isinstance(name, str) and len(name) > MAX_NAME), None):
                    text = f"{long[:40]}... has {len(long)} characters; the name of a field has at most {MAX_NAME}"
                    raise SpecError([Problem("", text)])
                count += len(node)
                below += node.values()
            elif isinstance(node, list):
                below += node
        level, count = below, count + len(below)
        if count > MAX_VALUES:
            raise SpecError([Problem("", _TOO_MANY)])


_TOO_MANY = f"a spec has at most {MAX_VALUES} fields and values"


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
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f"{_shown(twice)} is set twice")
        return fields

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _load_yaml(text: str) -> Any:
    """The values of a YAML text: safe, and without tags, duplicate keys, and aliases, a few lines of which expand to
    gigabytes.

    libyaml, which every wheel of PyYAML brings, reads the text; its events become values here, one by one.
    """
    parser = yaml.cyaml.CParser(text)  # type: ignore[attr-defined]  # the stubs leave it out
    try:
        return _Yaml(parser).document()
    finally:
        parser.dispose()


# What word processors and web pages put where a space was typed. To YAML they are letters of the field's name.
_ODD_SPACES = frozenset("\u00a0\u2002\u2003\u2007\u2009\u200b\u202f\u3000\ufeff")

# The core schema of YAML 1.2. PyYAML follows YAML 1.1, where 1e-3 is text, 010 is 8, 1:30 is 90 and `no` is false.
# JSON's types only: a date in a spec is a mistake, and stays the text it looks like. Every pattern takes linear time.
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _scalar(text: str) -> Any:
    """The value of a scalar without quotes."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INT.fullmatch(text):
        return int(text)
    if not _FLOAT.fullmatch(text):
        return text
    return float(text.replace(".", "") if text[-1] in "fFnN" else text)  # Python's "inf" is YAML's ".inf"


class _Yaml:
    """Values from the events of one text."""

    def __init__(self, events: Any) -> None:
        self._next = events.get_event
        self._depth = self._count = 0

    def document(self) -> Any:
        """The one document of the text; None if it has none."""
        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = self._value(self._next())
        self._next()  # the document ends
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise yaml.composer.ComposerError(None, None, "but found another document", event.start_mark)
        return value

    def _value(self, event: Any) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise ValueError(_TOO_MANY)
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not allowed in a spec", event)
        if event.tag is not None:
            raise _refusal(f"tags, as {event.tag[:MAX_NAME]}, are not allowed in a spec", event)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event.value) if event.implicit[0] else event.value
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event)
        value = self._sequence() if isinstance(event, yaml.SequenceStartEvent) else self._mapping()
        self._depth -= 1
        return value

    def _sequence(self) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            found.append(self._value(event))
        return found

    def _mapping(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            is_scalar = isinstance(event, yaml.ScalarEvent | yaml.AliasEvent)
            key = self._value(event) if is_scalar else None
            if not isinstance(key, str):
                raise _refusal("field names must be text", event)
            if odd := next((character for character in key if character in _ODD_SPACES), None):
                name = unicodedata.name(odd).lower()
                raise _refusal(f"a {name} (U+{ord(odd):04X}) stands where a space is needed", event)
            if key in found:
                raise _refusal(f"{_shown(key)} is set twice", event)
            found[key] = self._value(self._next())
        return found


def _refusal(what: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_NAME else text[:40] + "...")
