"""Specs as they are handed to a client: a file, a text or values. What they mean is the service's to say."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adadim.client import ClientError
from adadim.connection import is_here
from adadim_core.spec import MAX_SPEC_BYTES, SpecError
from adadim_core.spec.notation import decode, load

_FILES = (".yaml", ".yml", ".json")


def spec_text(spec: Path | Mapping[str, Any] | str, url: str) -> str:
    """The text to submit.

    Args:
        spec: a file (Path, or a str that ends in .yaml, .yml or .json; `-` is standard input), a text, or values.
        url: of the service. For one on this machine a relative data.path is made absolute.

    Raises:
        OSError: the file cannot be read.
        ClientError: it is too large or not UTF-8, or the values are none that JSON has.
    """
    folder = Path.cwd()
    if isinstance(spec, Mapping):
        try:
            text = json.dumps(dict(spec), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ClientError(f"the spec cannot be written as JSON: {error}") from None
    elif isinstance(spec, Path) or spec.endswith(_FILES):
        text = read_spec_text(Path(spec))
        folder = folder if str(spec) == "-" else Path(spec).absolute().parent
    else:
        text = spec
    return with_local_data(text, folder) if is_here(url) else text


def read_spec_text(spec: Path) -> str:
    """A spec's text, of a file or, for `-`, of standard input.

    Raises:
        OSError: the file cannot be read.
        ClientError: it is too large or not UTF-8; the file is named.
    """
    if str(spec) == "-":
        raw = sys.stdin.buffer.read(MAX_SPEC_BYTES + 1)
    else:
        with spec.open("rb") as file:
            raw = file.read(MAX_SPEC_BYTES + 1)
    try:
        return decode(raw)
    except SpecError as error:
        raise ClientError(error.in_file(str(spec))) from None


def with_local_data(text: str, folder: Path) -> str:
    """The spec with the paths of its data absolute, where they are relative and lie in the spec's folder or this one.

    Its trials run in folders of Ray's. What is found in neither is left as it is: it may be that of the nodes' data
    roots. So is a spec that does not parse: the service says what is wrong with it.
    """
    try:
        document = load(text)
    except SpecError:
        return text
    found = [section for section in _sources(document) if _is_relative(section.get("path"))]
    before = [section["path"] for section in found]
    for section in found:
        places = (place / section["path"] for place in (folder, Path.cwd()))
        section["path"] = next((str(place.absolute()) for place in places if place.exists()), section["path"])
    return json.dumps(document) if before != [section["path"] for section in found] else text


def _sources(document: Any) -> Iterator[dict[str, Any]]:
    """The sections that say where images are read from: `data`, and `evaluation.transfer`, the second set."""
    match document:
        case {"data": dict(data)}:
            yield data
    match document:
        case {"evaluation": {"transfer": dict(transfer)}}:
            yield transfer


def _is_relative(path: Any) -> bool:
    return isinstance(path, str) and not Path(path).expanduser().is_absolute()
