"""The folders of many runs below one storage, as a backup lists them and its restoration renames them.

Owns nothing of what is in them. Names of files are relative to the storage.
"""

import os
import stat
from pathlib import Path

from adadim_core.storage.address import folder, in_object_store, join
from adadim_core.storage.object_store import ObjectStore


def sizes_of_runs(storage: str, prefix: str) -> dict[str, int]:
    """Every regular file of the runs whose folders begin with `prefix`, with its size in bytes; no link is followed.

    Raises:
        OSError: the storage cannot be read.
    """
    if in_object_store(storage):
        return {name: size for name, size in ObjectStore(storage).sizes().items() if name.startswith(prefix)}
    root = folder(storage)
    if not root.exists():
        return {}
    found = {}
    for run in sorted(root.iterdir()):
        if not run.name.startswith(prefix) or run.is_symlink() or not run.is_dir():
            continue
        for place, _, names in os.walk(run, onerror=_raise):
            for name in names:
                path = Path(place, name)
                try:
                    state = path.lstat()
                except FileNotFoundError:  # a run goes on
                    continue
                if stat.S_ISREG(state.st_mode):
                    found[path.relative_to(root).as_posix()] = state.st_size
    return found


def rename_run(storage: str, name: str, to: str) -> None:
    """Give a run's folder another name. Raises FileExistsError if there is such a folder; OSError."""
    if in_object_store(storage):
        if ObjectStore(join(storage, to)).sizes():
            raise FileExistsError(f"{to} is in the storage already")
        store = ObjectStore(storage)
        for key in sorted(ObjectStore(join(storage, name)).sizes()):
            store.move(f"{name}/{key}", f"{to}/{key}")
        return
    if (folder(storage) / to).exists():
        raise FileExistsError(17, "is there already", str(folder(storage) / to))
    (folder(storage) / name).rename(folder(storage) / to)


def _raise(error: OSError) -> None:
    raise error
