"""The files of a published set: in the folder, in its usual subfolder, or still packed."""

from collections.abc import Collection
from pathlib import Path

from adadim_core.data.archives import tar_members
from adadim_core.data.errors import DataError
from adadim_core.data.memory import memory_limit, size_text
from adadim_core.data.roots import check_inside

# CIFAR's files are held whatever the memory limit; those of larger sets are mapped once they are unpacked.
_ALWAYS_HELD = 2**28


def find_files(
    path: Path, names: Collection[str], *, folders: Collection[str], archives: Collection[str]
) -> dict[str, Path | bytes]:
    """The named files that exist: paths, or the content of members of an archive.

    Args:
        path: an archive, or a folder.
        names: of the files, without folders.
        folders: subfolders that the published archives unpack to.
        archives: names of the published archives.

    Raises:
        DataError: an archive cannot be read, or the files in it are larger than the memory limit and 256 MiB.
    """
    if not path.is_dir():
        return dict(_unpack(path, names))
    for folder in (path, *(path / name for name in folders)):
        there = {name: check_inside(folder / name) for name in names if (folder / name).is_file()}
        if there:
            return dict(there)
    for name in archives:
        if (path / name).is_file():
            return dict(_unpack(check_inside(path / name), names))
    return {}


def _unpack(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    limit = left = max(memory_limit(), _ALWAYS_HELD)
    for member, read in tar_members(archive):
        name = member.parts[-1] if member.parts else ""
        if name in names and name not in found:
            left -= member.size
            if left < 0:
                raise DataError(
                    f"the files in {archive} are larger than the {size_text(limit)} that may be held in "
                    "memory: unpack it and name the folder"
                )
            found[name] = read()
    return found
