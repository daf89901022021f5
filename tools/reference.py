"""Writes the reference pages of the documentation from what they describe: schema, API, command line, client.

    python tools/reference.py docs/reference

`make docs` runs it before it builds the site. Nothing of what it writes is kept in the repository, so that a page
cannot say anything but what the code does.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import adadim
from adadim_core.spec import json_schema
from service.app import create_app
from service.cli.main import app as command_line
from service.settings import Settings

_GENERATED = "*Made from {} when this site was built.*"
_BOUND = 2**31
"""Numbers from here on bound nothing that people write."""
_PREFIX = "/api/v1"
_METHODS = ("get", "post", "put", "patch", "delete")


def write(folder: Path) -> list[Path]:
    """Write every page into a folder; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "spec.md": spec_page(json_schema()),
        "api.md": api_page(create_app(Settings(state_dir=folder), "http://127.0.0.1:8080").openapi()),
        "cli.md": cli_page(command_line),
        "client.md": client_page(),
    }
    for name, text in pages.items():
        (folder / name).write_text(text)
    return [folder / name for name in pages]


# -- the spec -----------------------------------------------------------------------------------------------------


def spec_page(schema: dict[str, Any]) -> str:
    """Every field of the spec, section by section, from its JSON Schema."""
    head = [
        "# Fields of the spec",
        _GENERATED.format("the JSON Schema, which `GET /api/v1/spec/schema` gives"),
        (
            "Sections in the order of a spec; a search names fields by these dotted paths. What they are for is in "
            "[The spec](../spec.md)."
        ),
    ]
    return _page([*head, *_section(schema, schema, "", 2)])


def _section(schema: dict[str, Any], section: dict[str, Any], path: str, level: int) -> Iterator[str]:
    fields = section.get("properties", {})
    rows = [_field(schema, path, name, field, name in section.get("required", ())) for name, field in fields.items()]
    yield _table(("field", "type", "default", "meaning"), rows)
    for name, field in fields.items():
        inner = f"{path}{name}"
        kinds = [kind for kind in _kinds(schema, field) if kind.get("properties")]
        for kind in kinds:
            which = _kind_of(kind) if len(kinds) > 1 else ""
            yield f"{'#' * min(level, 4)} {inner}{f': {which}' if which else ''}"
            if about := kind.get("description"):
                yield _plain(about)
            yield from _section(schema, kind, f"{inner}.", level + 1)


def _field(schema: dict[str, Any], path: str, name: str, field: dict[str, Any], required: bool) -> tuple[str, ...]:
    default = "required" if required else _code(json.dumps(field["default"])) if "default" in field else ""
    if isinstance(field.get("default"), dict):
        default = "see below"
    return _code(path + name), _type(schema, field), default, _plain(field.get("description", ""))


def _kinds(schema: dict[str, Any], field: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections that a field may be, references followed."""
    options = field.get("oneOf") or field.get("anyOf") or [field]
    return [_resolved(schema, option) for option in options]


def _kind_of(kind: dict[str, Any]) -> str:
    named = next((f for f in kind["properties"].values() if "const" in f), {})
    return str(named.get("const", kind.get("title", "")))


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in field:
        named: dict[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]]
        return named
    return field


def _type(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """A type in words, with its bounds."""
    field = _resolved(schema, field)
    if options := field.get("oneOf") or field.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(schema, option) for option in options))
    if "const" in field:
        return _code(json.dumps(field["const"]))
    if "enum" in field:
        return ", ".join(_code(json.dumps(value)) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(schema, field.get('items', {}))}"
    if field.get("properties"):
        return "section"
    names = {"integer": "whole number", "string": "text", "object": "mapping", "boolean": "true or false"}
    words = names.get(field.get("type", ""), field.get("type", "any"))
    bounds = [
        text.format(f"{field[key]:g}" if isinstance(field[key], float) else field[key])
        for key, text in (
            ("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"), ("exclusiveMaximum", "< {}"),
        )
        if key in field and abs(field[key]) < _BOUND
    ]  # fmt: skip
    return f"{words} {', '.join(bounds)}".strip()


# -- the API ------------------------------------------------------------------------------------------------------


def api_page(document: dict[str, Any]) -> str:
    """Every route with its parameters and answers, from OpenAPI."""
    parts = [
        "# REST API",
        _GENERATED.format("the API's OpenAPI document, which a service shows at `/docs`"),
        (
            "Paths begin with `/api/v1`, but for `/healthz`, `/readyz` and `/metrics`. "
            "A request carries `Authorization: Bearer TOKEN`. Errors are problem details (RFC 9457). Lists come in "
            "pages: send `next_cursor` as `cursor` for the next one."
        ),
    ]
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                tag = operations[method].get("tags", ["other"])[0]
                by_tag.setdefault(tag, []).append((method.upper(), path, operations[method]))
    for tag, routes in sorted(by_tag.items()):
        parts.append(f"## {tag.capitalize()}")
        for method, path, operation in routes:
            parts += _route(method, path, operation)
    parts.append("## Schemas")
    for name, found in sorted(document["components"]["schemas"].items()):
        parts += _schema(name, found)
    return _page(parts)


def _route(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {_code(f'{method} {path.removeprefix(_PREFIX)}')}"
    yield _plain(operation.get("description", operation.get("summary", "")))
    rows = [
        (
            _code(parameter["name"]),
            parameter["in"],
            _api_type(parameter.get("schema", {})),
            _plain(parameter.get("description", parameter.get("schema", {}).get("description", ""))),
        )
        for parameter in operation.get("parameters", ())
    ]
    if rows:
        yield _table(("parameter", "in", "type", "meaning"), rows)
    if body := operation.get("requestBody", {}).get("content"):
        yield "Body: " + "; ".join(
            f"{_code(kind)} {_api_type(found.get('schema', {}))}" for kind, found in body.items()
        )
    answers = [
        f"{status} {_api_type(found.get('schema', {}))} ({_code(kind)})"
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for kind, found in (answer.get("content") or {"": {}}).items()
    ]
    yield "Answers: " + "; ".join(text.replace(" (``)", "") for text in answers)


def _schema(name: str, found: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    if about := found.get("description"):
        yield _plain(about)
    rows = [
        (_code(field), _api_type(kind), _plain(kind.get("description", "")))
        for field, kind in found.get("properties", {}).items()
    ]
    if rows:
        yield _table(("field", "type", "meaning"), rows)


def _api_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{slug(name)})"
    if options := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_api_type(option) for option in options))
    if schema.get("type") == "array":
        return f"list of {_api_type(schema.get('items', {}))}"
    return _type(schema, schema) if schema else "any"


# -- the command line ---------------------------------------------------------------------------------------------


def cli_page(application: typer.Typer) -> str:
    """Every command with its arguments and options."""
    command: Any = get_command(application)
    parts = ["# Command line", _GENERATED.format("`adadim --help`"), _plain(command.epilog or "")]
    return _page([*parts, *_commands(command, "adadim")])


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
            continue
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments)
        yield f"## {path} {name}"
        yield _plain(command.help or "")
        yield f"```sh\n{path} {name} {usage}".rstrip() + "\n```"
        rows = [
            (_code(", ".join(p.opts)) if p.opts and p.opts[0].startswith("-") else _code(p.name.upper()),
             _plain(getattr(p, "help", "") or ""))
            for p in command.params
            if p.name != "help"
        ]  # fmt: skip
        if rows:
            yield _table(("option", "meaning"), rows)


# -- the client ---------------------------------------------------------------------------------------------------


def client_page() -> str:
    """Every public name of the client with its documentation."""
    parts = ["# Python client", _GENERATED.format("the documentation in the code of `adadim`")]
    for name in sorted(adadim.__all__, key=str.lower):
        found = getattr(adadim, name)
        if name.startswith("_"):
            continue
        if inspect.isclass(found):
            parts += _class(name, found)
        else:
            parts += [f"## {name}", f"```python\nadadim.{name}{inspect.signature(found)}\n```", _docstring(found)]
    return _page(parts)


def _class(name: str, found: type) -> Iterator[str]:
    yield f"## {name}"
    yield _docstring(found)
    for member, value in _members(found).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"### {name}.{member}"
            yield _docstring(value)
        elif inspect.isfunction(value) or isinstance(value, classmethod):
            function = value.__func__ if isinstance(value, classmethod) else value
            yield f"### {name}.{member}"
            yield f"```python\n{member}{inspect.signature(function)}\n```"
            yield _docstring(function)


def _members(found: type) -> dict[str, Any]:
    """What a class and those of the client that it stands on define, in the order of their text."""
    own = [each for each in found.__mro__ if each is found or each.__module__.partition(".")[0] == adadim.__name__]
    return {member: value for each in reversed(own) for member, value in vars(each).items()}


def _docstring(found: Any) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines, inside = [], False
    for line in (inspect.getdoc(found) or "").splitlines():
        if re.fullmatch(r"(Args|Returns|Raises):", line):
            lines += ["", f"**{line[:-1]}**", ""]
            inside = True
        elif inside and (entry := re.match(r"    (\S[^:]*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {_plain(entry[2])}")
        elif inside and line.startswith("    "):
            lines.append(f"  {_plain(line.strip())}" if line.startswith("     ") else f"- {_plain(line.strip())}")
        else:
            inside = inside and not line
            lines.append(_plain(line))
    return "\n".join(lines).strip()


# -- Markdown -----------------------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor of a heading, as the site and GitHub make it."""
    text = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _plain(text: str) -> str:
    """Text in one line, in which nothing is taken for markup."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([<>*_\[\]{}])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])), sep="\n")
