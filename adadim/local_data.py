"""A relative data.path in a spec that is submitted to a service on this machine: whose folder it means."""

import json
from pathlib import Path

from adadim_core.spec import SpecError
from adadim_core.spec.notation import load


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
