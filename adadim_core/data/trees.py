"""Image files in a folder or in an archive, by split and class: `split/class/.../name`.

Owns the listing, and what is passed over while listing. Does not own which splits are used (image_folder.py).
"""

import os
import zipfile
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from adadim_core.data.archives import is_compressed, tar_members
from adadim_core.data.errors import DataError
from adadim_core.data.files import MAX_BYTES, Files, FolderFiles, HeldFiles, Names, TarFiles
from adadim_core.data.memory import memory_limit, size_text
from adadim_core.data.pixels import SUFFIXES
from adadim_core.data.roots import check_inside
from adadim_core.data.skipped import (
    BROKEN_LINK,
    LEFTOVER,
    NO_FILE,
    REPEATED_FOLDER,
    UNREAD_ENDING,
    Skipped,
    is_leftover,
)

SPLITS = ("train", "test", "val", "valid", "validation")


class Tree(Protocol):
    """The images of a tree by split and class. An empty name means no class, or no split."""

    splits: frozenset[str]
    """The SPLITS that exist."""
    neighbours: tuple[str, ...]
    """What lies beside them."""
    skipped: Skipped

    def classes(self, split: str) -> list[str]:
        """Names of the folders in a split, in order."""

    def images(self, split: str, class_name: str) -> Iterable[str]:
        """Names of the images of a class below its folder, in order."""

    def files(self, names: Names) -> Files:
        """The files of these names, `split/class/name` without what is empty."""


def open_tree(path: Path) -> Tree:
    """The tree of a folder or of an archive. Raises DataError."""
    if path.is_dir():
        return _FolderTree(path)
    if zipfile.is_zipfile(path):
        raise DataError(f"{path} is a zip archive, whose files are not read: unpack it, or make it a .tar")
    if is_compressed(path) or not hasattr(os, "pread"):
        return _HeldTree(path)
    return _TarTree(path)


def join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


class _FolderTree:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped = Skipped()
        check_inside(path)
        with os.scandir(path) as entries:
            there = {entry.name: entry.is_dir() for entry in entries if not is_leftover(entry.name)}
        self.splits = frozenset(split for split in SPLITS if there.get(split))
        self.neighbours = tuple(
            sorted(f"{name}/" if folder else name for name, folder in there.items() if name not in self.splits)
        )

    def classes(self, split: str) -> list[str]:
        folder = check_inside(self._path / split)
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_leftover(entry.name))

    def images(self, split: str, class_name: str) -> Iterable[str]:
        folder = check_inside(self._path / split / class_name)
        found = folder.stat()
        return sorted(
            self._below(folder, "", seen={(found.st_dev, found.st_ino)}, shown=join(split, class_name), deep=class_name)
        )

    def _below(self, folder: Path, prefix: str, *, seen: set[tuple[int, int]], shown: str, deep: str) -> Iterator[str]:
        """Names below a class. Links are followed where they may be; each folder is read once, so that loops end."""
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                place = f"{shown}/{prefix}{entry.name}"
                if is_leftover(entry.name):
                    self.skipped.add(LEFTOVER, place)
                elif entry.is_dir():
                    if deep:
                        yield from self._subfolder(entry, prefix, seen=seen, shown=shown, deep=deep)
                elif entry.is_symlink() and not entry.is_file():
                    self.skipped.add(BROKEN_LINK, place)
                elif not entry.is_file():
                    self.skipped.add(NO_FILE, place)
                elif not _is_image(entry.name):
                    self.skipped.add(UNREAD_ENDING, place)
                else:
                    if entry.is_symlink():
                        check_inside(Path(entry.path))
                    yield prefix + entry.name

    def _subfolder(
        self, entry: "os.DirEntry[str]", prefix: str, *, seen: set[tuple[int, int]], shown: str, deep: str
    ) -> Iterator[str]:
        folder = check_inside(Path(entry.path)) if entry.is_symlink() else Path(entry.path)
        found = entry.stat()
        identity = (found.st_dev, found.st_ino)
        if identity in seen:
            self.skipped.add(REPEATED_FOLDER, f"{shown}/{prefix}{entry.name}")
            return
        seen.add(identity)
        yield from self._below(folder, f"{prefix}{entry.name}/", seen=seen, shown=shown, deep=deep)

    def files(self, names: Names) -> Files:
        return FolderFiles(self._path, names)


class _Held(NamedTuple):
    """A file of an archive: where it lies there, and what is in it where that is held."""

    offset: int
    size: int
    content: bytes


class _ArchiveTree:
    """Everything in an archive, which may have one folder around it all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped = Skipped()
        self._files: dict[str, _Held] = {}
        by_class: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        tops: set[tuple[str, ...]] = set()
        left = memory_limit()
        for member, read in tar_members(path, self.skipped):
            if len(tops) < _MOST_TOPS:
                tops.add(member.parts[:2])
            start = next((n for n in (0, 1) if len(member.parts) > n + 1 and member.parts[n] in SPLITS), None)
            if start is None and len(member.parts) > 1:
                continue
            split, *folders, name = member.parts[start:] if start is not None else ("", *member.parts)
            classes = by_class[split]
            shown = "/".join(member.parts[start or 0 :])
            if any(is_leftover(part) for part in (*folders, name)):
                self.skipped.add(LEFTOVER, shown)
            elif not _is_image(name):
                self.skipped.add(UNREAD_ENDING, shown)
            else:
                if member.size > MAX_BYTES:
                    raise DataError(f"{'/'.join(member.parts)} in {path} has more than {MAX_BYTES} bytes")
                content, left = self._content(read, member.size, left)
                class_name = folders[0] if folders else ""
                classes[class_name].append(join(*folders[1:], name))
                self._files[shown] = _Held(member.offset, member.size, content)
        self._by_class = {split: dict(classes) for split, classes in by_class.items()}
        self.splits = frozenset(self._by_class) - {""}
        self.neighbours = _neighbours(tops)

    def _content(self, read: Callable[[], bytes], size: int, left: int) -> tuple[bytes, int]:  # noqa: ARG002
        return b"", left

    def classes(self, split: str) -> list[str]:
        return sorted(name for name in self._by_class.get(split, {}) if name)

    def images(self, split: str, class_name: str) -> Iterable[str]:
        return sorted(self._by_class.get(split, {}).get(class_name, []))

    def _in_order(self, names: Names) -> Iterator[_Held]:
        return (self._files[names[index]] for index in range(len(names)))


class _TarTree(_ArchiveTree):
    def files(self, names: Names) -> Files:
        offsets, sizes = array("q"), array("q")
        for held in self._in_order(names):
            offsets.append(held.offset)
            sizes.append(held.size)
        return TarFiles(self._path, names, offsets, sizes)


class _HeldTree(_ArchiveTree):
    """A compressed archive can only be read from its beginning: its files are held in memory, still encoded."""

    def _content(self, read: Callable[[], bytes], size: int, left: int) -> tuple[bytes, int]:
        if size > left:
            raise DataError(
                f"the images in {self._path} take more than the {size_text(memory_limit())} that may be held in "
                "memory: unpack it, or make it a .tar without compression, so that they can be read one by one"
            )
        return read(), left - size

    def files(self, names: Names) -> Files:
        return HeldFiles(self._path, names, [held.content for held in self._in_order(names)])


_MOST_TOPS = 10_000


def _neighbours(tops: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Names beside the splits, at the top of the archive or in the one folder around everything."""
    around = {top[0] for top in tops if len(top) > 1 and top[1] in SPLITS and top[0] not in SPLITS}
    beside = {top[0] for top in tops} if not around else {top[1] for top in tops if top[0] in around and len(top) > 1}
    return tuple(sorted(name for name in beside if name not in SPLITS and not is_leftover(name)))
