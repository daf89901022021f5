"""Specs as they are handed to a client: a file, a text or values. What they mean is the service's to say."""

import json
import sys
from collections.abc import Mapping
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
    """The spec with its data.path absolute, where that is relative and lies in the spec's folder or in this one.

    Its trials run in folders of Ray's. What is found in neither is left as it is: it may be that of the nodes' data
    roots. So is a spec that does not parse: the service says what is wrong with it.
    """
    try:
        document = load(text)
    except SpecError:
        return text
    match document:
        case {"data": {"path": str(path), **others}} if not Path(path).expanduser().is_absolute():
            pass
        case _:
            return text
    for place in (folder, Path.cwd()):
        if (place / path).exists():
            return json.dumps({**document, "data": {**others, "path": str((place / path).absolute())}})
    return text
