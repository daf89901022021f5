"""What was skipped in reading a data set: counted by reason, with the first names of each.

Owns which names are left behind by other programs and never belong to a set.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

_EXAMPLES = 3

# Hidden names (.DS_Store, .ipynb_checkpoints, ._*) beside these. Compared in lower case.
_LEFTOVERS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)

LEFTOVER = "hidden, or left by another program"
UNREAD_ENDING = "ending is not that of an image"
BROKEN_LINK = "link to nothing"
REPEATED_FOLDER = "link to a folder that was read already"
NO_FILE = "neither a file nor a folder"
NO_CLASS = "image in no class folder"
EMPTY_FOLDER = "class folder without images"
ARCHIVED_LINK = "link in an archive"
OUTSIDE = "path that leads out of the archive"


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a leftover of an operating system or a program."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


@dataclass
class _Reason:
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Skipped:
    """Counts what is skipped."""

    def __init__(self) -> None:
        self._reasons: dict[str, _Reason] = {}

    def add(self, reason: str, name: str) -> None:
        found = self._reasons.setdefault(reason, _Reason())
        found.count += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(name)

    def __iter__(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """Reason, how many, and the first names."""
        for reason, found in self._reasons.items():
            yield reason, found.count, tuple(found.examples)
