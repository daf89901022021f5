"""The text of a spec that a command was given. What it means is the service's to say."""

import sys
from pathlib import Path

from adadim.client import ClientError
from adadim_core.spec import MAX_SPEC_BYTES, SpecError
from adadim_core.spec.notation import decode


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
