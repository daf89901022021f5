"""Where data may be: a spec's path must lie in the folders that ADADIM_DATA_ROOTS names.

Without that variable a path may be anything the process can read, which suits a single user.
"""

import os
from pathlib import Path

from adadim_core.data.errors import DataError

ROOTS_VARIABLE = "ADADIM_DATA_ROOTS"


def resolve(path: str) -> Path:
    """The real path, symbolic links followed, of a file or folder that exists inside the roots.

    A relative path is looked up in each root in turn or, without roots, in the working directory.

    Raises:
        DataError: there is nothing at the path, or it leads out of the roots.
    """
    given, roots = Path(path).expanduser(), _roots()
    candidates = [given] if given.is_absolute() or not roots else [root / given for root in roots]
    if given.is_absolute():
        check_inside(given)
    for candidate in candidates:
        if os.path.lexists(candidate):
            real = check_inside(candidate)
            if real.exists():
                return real
    places = [str(candidate.absolute()) for candidate in candidates]
    raise DataError(f"there is no {path}" + (f" (looked at {', '.join(places)})" if places != [str(path)] else ""))


def check_inside(path: Path) -> Path:
    """The real path.

    Raises:
        DataError: there are roots, and it lies in none of them.
    """
    real, roots = Path(os.path.realpath(path)), _roots()
    if roots and not any(real.is_relative_to(root) for root in roots):
        raise DataError(f"{path} leads out of the data roots ({ROOTS_VARIABLE}={os.environ[ROOTS_VARIABLE]})")
    return real


def _roots() -> list[Path]:
    named = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    return [Path(os.path.realpath(root)) for root in named if root]
