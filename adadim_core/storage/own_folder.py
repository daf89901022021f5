"""A folder of one user's alone in a place where everyone may make folders, such as /tmp.

Its name is easily guessed: somebody else may have made it, or a link in its place. Then it is left alone, and a folder
is made whose name nobody could guess: nobody can own the folder, and nobody can keep its user from having one. Owns
that choice for all who keep files there.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

SUFFIX_LENGTH = 7
"""What the name of a folder may be longer than the one asked for."""
_TRIES = 100


def own_folder(place: Path, name: str, owner: int | None = None) -> Path:
    """Make the folder, or find the one that was made before; closed to everyone else.

    Args:
        place: The folder above it, which exists.
        name: Its name, or with a suffix of SUFFIX_LENGTH characters the beginning of it.
        owner: Whose it is to be, by number; None: this process's user. Only root gives folders to others.

    Raises:
        OSError: it cannot be made.
    """
    folder = find_own_folder(place, name, owner) or _made(place, name)
    if stat.S_IMODE(folder.lstat().st_mode) != 0o700:
        folder.chmod(0o700)
    if owner is not None and folder.lstat().st_uid != owner:
        os.chown(folder, owner, owner, follow_symlinks=False)
    return folder


def find_own_folder(place: Path, name: str, owner: int | None = None) -> Path | None:
    """The folder as `own_folder` made it; None if there is none. Links, files and others' folders are none."""
    users = {os.geteuid(), owner}
    for folder in (place / name, *sorted(place.glob(f"{name}.*"))):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid in users:
                return folder
    return None


def _made(place: Path, name: str) -> Path:
    folder = place / name
    for _ in range(_TRIES):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            folder = place / f"{name}.{secrets.token_hex(SUFFIX_LENGTH // 2)}"
        else:
            return folder
    raise FileExistsError(f"no folder can be made in {place}: every name for it is taken")
