"""A path of this Python interpreter that means nothing to a shell: Ray hands it to one, unquoted."""

import os
import sys
from pathlib import Path


def plain_programs(folder: Path) -> Path:
    """The folder with this interpreter and its scripts: its own, or a link to it in `folder`, which is made if need be.

    A virtual environment works through a link as it does by itself.
    """
    own = Path(sys.executable).parent
    if is_plain(own):
        return own
    link = folder / "python"
    if not link.is_symlink() or os.readlink(link) != str(own.parent):  # noqa: PTH115 - compared as text
        link.unlink(missing_ok=True)
        link.symlink_to(own.parent)
    return link / own.name


def is_plain(path: Path) -> bool:
    """Whether a shell takes a path for a path, whole."""
    return all(letter.isalnum() or letter in "/._-+:@%" for letter in str(path))
