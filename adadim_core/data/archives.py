"""Compressed files and tar archives, read in place: nothing is ever written to disk.

The content is not trusted: links, devices and paths that lead elsewhere are skipped, sizes are bounded before anything
is read, and an archive that ends too early is an error.
"""

import bz2
import gzip
import itertools
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from adadim_core.data.errors import DataError
from adadim_core.data.skipped import ARCHIVED_LINK, NO_FILE, OUTSIDE, Skipped

_OPENERS: dict[bytes, Callable[[Path], object]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
}
_HEADER_LIMIT = 2**20
_MOST_EXPANSION, _ALWAYS_EXPANDED = 100, 2**22
"""Nobody's images or labels compress as well; a few bytes of zeros compressed would take minutes to read."""
_SMALLEST_MEMBER, _ALWAYS_MEMBERS = 64, 500
"""Compressed bytes of a file with its header; each takes longer to read than its bytes do."""
_SKIP = 2**20
_BLOCK = 512


@dataclass(frozen=True)
class Member:
    """A regular file in a tar archive."""

    parts: tuple[str, ...]
    """Its path, without any leading dot."""
    offset: int
    """Where its bytes begin in the uncompressed archive."""
    size: int


def check_expansion(path: Path, size: int) -> None:
    """Whether a compressed file may hold so many bytes. Raises DataError."""
    if size > _most_expanded(path):
        raise DataError(
            f"{path} expands to more than {_MOST_EXPANSION} times its {path.stat().st_size} bytes, as no images or "
            "labels do: it is damaged, or made to fill memory; if it is neither, unpack it"
        )


def _most_expanded(path: Path) -> int:
    return max(_MOST_EXPANSION * path.stat().st_size, _ALWAYS_EXPANDED)


def is_compressed(path: Path) -> bool:
    """Whether the file is gzip, xz or bzip2, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(6)
    return any(start.startswith(magic) for magic in _OPENERS)


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """The file's content, decompressed as it is read.

    Raises:
        DataError: the file cannot be read, or is truncated or damaged as a compressed file.
    """
    with _refusing(path):
        with path.open("rb") as file:
            start = file.read(6)
        opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
        with cast("BinaryIO", opener(path) if opener else path.open("rb")) as content:
            yield cast("BinaryIO", _Expanding(path, content)) if opener else content


def tar_members(path: Path, skipped: Skipped | None = None) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    """The files of a tar archive, compressed or not, in their order, each with a function that reads it.

    Read a member before advancing to the next, or not at all. Check its size first. Symbolic links are skipped.

    Args:
        path: the archive.
        skipped: counts what is skipped.

    Raises:
        DataError: the file is not a tar archive, is truncated or damaged, or has hard links.
    """
    with open_plain(path) as content:
        stream = _Forward(path, content, seekable=not is_compressed(path))
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r:") as archive:
            most = _ALWAYS_MEMBERS + path.stat().st_size // _SMALLEST_MEMBER
            for count in itertools.count(1):
                if (info := archive.next()) is None:
                    break
                if count > most:
                    raise DataError(
                        f"{path} has more files than its size can hold: it is damaged, or made to keep busy"
                    )
                archive.members.clear()  # type: ignore[attr-defined]  # a kilobyte of each file there is
                parts = PurePosixPath(info.name).parts
                inside = not info.name.startswith("/") and ".." not in parts
                if info.islnk():
                    raise DataError(
                        f"{info.name} in {path} is a hard link to {info.linkname}: pack the archive again with "
                        "tar --hard-dereference"
                    )
                if info.isreg() and not info.issparse() and inside:
                    member = Member(parts, info.offset_data, info.size)
                    yield member, partial(stream.take, member.offset, member.size)
                elif skipped is not None and not info.isdir():
                    reason = ARCHIVED_LINK if info.issym() else NO_FILE if inside else OUTSIDE
                    skipped.add(reason, info.name)
        if stream.last != bytes(_BLOCK):
            # tarfile takes whatever it does not understand for the end.
            raise DataError(f"{path} is truncated or damaged: the archive has no end")


class _Expanding:
    """What a compressed file holds, as far as it may expand."""

    def __init__(self, path: Path, content: BinaryIO) -> None:
        self._path, self._content = path, content
        self._count, self._most = 0, _most_expanded(path)

    def read(self, size: int) -> bytes:
        data = self._content.read(min(size, self._most + 1 - self._count))
        self._count += len(data)
        if self._count > self._most:
            check_expansion(self._path, self._count)
        return data


class _Forward:
    """The stream from which tarfile reads headers. Refuses to seek back (decompressing again) and large reads."""

    def __init__(self, path: Path, content: BinaryIO, *, seekable: bool) -> None:
        self._path, self._content, self._seekable = path, content, seekable
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a member claims an impossible size")
        if self._seekable:
            self._content.seek(position)
            self._position = position
        while self._position < position:
            skipped = len(self._content.read(min(_SKIP, position - self._position)))
            if not skipped:
                raise tarfile.ReadError("unexpected end of data")
            self._position += skipped

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        self.last = self._content.read(size)
        self._position += len(self.last)
        return self.last

    def take(self, offset: int, size: int) -> bytes:
        """All bytes of a member, however large."""
        with _refusing(self._path):
            self.seek(offset)
            data = self._content.read(size)
            self._position += len(data)
            if len(data) != size:
                raise tarfile.ReadError("unexpected end of data")
        return data


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turns any failure to read the file into a DataError."""
    try:
        yield
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a tar archive, or truncated or damaged: {error}") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
