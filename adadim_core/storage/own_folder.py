"""A folder of one user's alone in a place where everyone may make folders, such as /tmp.

Its name is easily guessed: somebody else may have made it, or a link in its place. Owns that check for all who keep
files there.
"""

import contextlib
import os
import stat
from pathlib import Path


class NotOwnFolder(OSError):  # noqa: N818 - what was found
    """Something else is in the folder's place. The text says what to do, in one line."""


def own_folder(folder: Path, owner: int | None = None) -> Path:
    """Make the folder, or make sure of the one that is there: no link, its owner's, closed to everyone else.

    Args:
        folder: The folder; the one above it exists.
        owner: Whose it is to be, by number; None: this process's user. Only root gives folders to others.

    Raises:
        NotOwnFolder: what is there is a link, a file, or somebody else's.
        OSError: it cannot be made.
    """
    user = os.geteuid()
    owner = user if owner is None else owner
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (user, owner):
        raise NotOwnFolder(f"{folder} is not this user's own folder; remove it")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    if found.st_uid != owner:
        os.chown(folder, owner, owner, follow_symlinks=False)
    return folder
