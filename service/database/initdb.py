"""Makes the directory of the embedded PostgreSQL: whole or not at all, whatever ends it on the way.

initdb runs in a folder beside the directory, which is renamed once it is complete: initdb writes first what a server
takes for the sign of a database, and refuses what a killed one left. Owns where copies of the programs are run.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from adadim_core.interpreter import is_plain
from adadim_core.storage.atomic import sync_folder
from service.database.programs import LOCALE, DatabaseNotStarted, as_user, installation, last_words, libraries, programs

_LONGEST_S = 600.0
"""It brings 40 MB to disk, which takes a second, or on a busy network's disk minutes."""
_MAKING = ".making-"


def make_database(directory: Path, user: int | None) -> None:
    """Make a database, for a server that runs as `user`, in place of an empty directory that is there.

    Raises:
        DatabaseNotStarted: it cannot be made here. The directory is as it was.
    """
    if any(directory.iterdir()):
        raise DatabaseNotStarted(
            f"{directory} holds files, but no PostgreSQL database; move them elsewhere, or set ADADIM_STATE_DIR"
        )
    making = f".{directory.name}{_MAKING}"
    for left in directory.parent.glob("*"):  # by attempts that were killed; no other name begins like that
        if left.name.startswith(making):
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=making, dir=directory.parent))
    try:
        if user is not None:
            os.chown(made, user, user)
        _run_initdb(made, user)
        made.replace(directory)
        sync_folder(directory.parent)
    except OSError as error:
        raise DatabaseNotStarted(f"the database cannot be put in {directory}: {error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _run_initdb(directory: Path, user: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="adadim-initdb-", dir=_folder_for_programs(directory.parent, user)) as own:
        arguments = [
            *("-D", str(directory), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
        ]
        command = [str(_own_initdb(Path(own))), *arguments]
        if user is not None:
            os.chown(own, user, user)
        try:
            ran = subprocess.run(
                as_user(command, user),
                env=os.environ | LOCALE | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries()))},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LONGEST_S,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise DatabaseNotStarted(f"initdb did not end in {_LONGEST_S:.0f} s in {directory.parent}") from None
        except OSError as error:
            raise DatabaseNotStarted(f"initdb did not run: {error}") from error
    if ran.returncode:
        raise DatabaseNotStarted(f"initdb failed in {directory.parent}: {last_words(ran.stderr)}")


def _own_initdb(folder: Path) -> Path:
    """A copy of initdb, with the server it uses, in a folder whose path means nothing to the shell that it uses too.

    Both ask the system for the user's name, which a container's or a cluster's user may lack, and then use the one
    that `-U` tells. The copies ask for the first user that there is instead: a function with a name as long.
    """
    copies = folder / "bin"
    copies.mkdir()
    copies.chmod(0o755)  # whatever the umask: the service has one that closes it to the server's user
    for name in ("initdb", "postgres"):
        content = (programs() / name).read_bytes()
        (copies / name).write_bytes(content.replace(b"\0getpwuid\0", b"\0getpwent\0"))
        (copies / name).chmod(0o755)
    for name in ("share", "lib"):
        (folder / name).symlink_to(installation() / name)
    return copies / "initdb"


def _folder_for_programs(beside: Path, user: int | None) -> Path:
    """Where copies of programs can be run: beside the data, or where temporary files go.

    Raises:
        DatabaseNotStarted: nowhere.
    """
    places = list(dict.fromkeys([beside, Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]))  # noqa: S108
    reasons = []
    for place in places:
        why = _why_not(place, user)
        if why is None:
            return place
        reasons.append(f"{place} {why}")
    raise DatabaseNotStarted(f"initdb cannot be run: {', '.join(reasons)}; set TMPDIR to a folder without these faults")


def _why_not(folder: Path, user: int | None) -> str | None:
    """Why programs cannot be run in a folder; None: they can."""
    if not is_plain(folder):
        return "has a name with letters that a shell reads"
    # The server's user gets through closed folders, but asks the system whether he does, and hears no.
    if user is not None and not all(_lets_through(part, user) for part in [folder, *folder.parents]):
        return "is closed to the server's user"
    try:
        return "is mounted noexec" if os.statvfs(folder).f_flag & os.ST_NOEXEC else None
    except OSError as error:
        return f"cannot be used ({error.strerror})"


def _lets_through(folder: Path, user: int) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return True  # which is said by who uses it
    return bool(found.st_mode & (0o100 if found.st_uid == user else 0o001))
