"""Encoded images: in a folder, in a tar archive, or in memory; and the source that decodes them.

Names and positions are packed: as Python objects, a million of them would take gigabytes.
"""

import os
from array import array
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adadim_core.data.errors import BadFileError, DataError
from adadim_core.data.pixels import Header, Pixels, decode, inspect
from adadim_core.data.raw import SizesSeen

MAX_BYTES = 2**26
"""Larger image files are refused."""

_LOOKS = 256


class Files(Protocol):
    """Image files by number, read from several threads at once."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call the file in errors."""

    def place(self, index: int) -> str:
        """Where it lies in the set: the same in a folder and in an archive of it."""

    def size(self, index: int) -> int:
        """Bytes of the file; -1 where that cannot be told."""

    def read(self, index: int) -> bytes:
        """All of it. Raises BadFileError where that is not possible."""


class Names:
    """A list of strings in one buffer."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, name: str) -> None:
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._text[self._ends[index] : self._ends[index + 1]]))


class FolderFiles:
    """Files under a folder."""

    def __init__(self, folder: Path, names: Names) -> None:
        self._folder, self._names = os.fspath(folder), names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{self._folder}/{self._names[index]}"

    def place(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        try:
            return os.stat(self.name(index)).st_size  # noqa: PTH116 - as in read
        except OSError:
            return -1

    def read(self, index: int) -> bytes:
        try:
            with open(self.name(index), "rb", buffering=0) as file:  # noqa: PTH123 - a Path would double the time
                return _bounded(file.read(MAX_BYTES + 1), self.name(index))
        except OSError as error:
            raise BadFileError(f"{self.name(index)} cannot be read: {error}") from error


class TarFiles:
    """Members of an uncompressed tar archive, read in place."""

    def __init__(self, path: Path, names: Names, offsets: "array[int]", sizes: "array[int]") -> None:
        self._path, self._file = path, path.open("rb")
        self._names, self._offsets, self._sizes = names, offsets, sizes

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{self._names[index]} in {self._path}"

    def place(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        return self._sizes[index]

    def read(self, index: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), self._sizes[index], self._offsets[index])
        except OSError as error:
            raise BadFileError(f"{self.name(index)} cannot be read: {error}") from error


class HeldFiles:
    """Files in memory, still encoded."""

    def __init__(self, path: Path, names: Names, contents: list[bytes]) -> None:
        self._path, self._names, self._contents = path, names, contents

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{self._names[index]} in {self._path}"

    def place(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        return len(self._contents[index])

    def read(self, index: int) -> bytes:
        return self._contents[index]


class FileImages:
    """Some of the files as images of one shape."""

    may_be_bad = True

    def __init__(self, files: Files, rows: NDArray[np.int64], channels: int, image_size: int | None) -> None:
        """Without image_size, all images must have the size of the first file that can be decoded."""
        self._files, self._rows, self._channels, self._size = files, rows, channels, image_size
        self._first = 0
        sides = (image_size, image_size) if image_size else self._first_sides()
        self.shape = (len(rows), channels, *sides)

    def image(self, index: int) -> Pixels:
        file = int(self._rows[index])
        name = self._files.name(file)
        pixels_CHW = self._decoded(file)
        if pixels_CHW.shape != self.shape[1:]:
            _, _, height, width = self.shape
            raise DataError(
                f"the images have different sizes: {self._files.name(self._first)} is {width} x {height}, {name} "
                f"{pixels_CHW.shape[2]} x {pixels_CHW.shape[1]}; set data.image_size"
            )
        return pixels_CHW

    def name(self, index: int) -> str:
        file = int(self._rows[index])
        return f"{self._files.place(file)} {self._files.size(file)}"

    def content(self, index: int) -> bytes:
        return self._files.read(int(self._rows[index]))

    def _first_sides(self) -> tuple[int, int]:
        failure: BadFileError | None = None
        for file in range(min(len(self._files), _LOOKS)):
            try:
                _, height, width = self._decoded(file).shape
            except BadFileError as error:
                failure = failure or error
            else:
                self._first = file
                return height, width
        raise failure or BadFileError("there is no file")

    def _decoded(self, file: int) -> Pixels:
        name = self._files.name(file)
        return decode(self._files.read(file), name, channels=self._channels, image_size=self._size)


def look(files: Files) -> tuple[int, SizesSeen]:
    """Channels of the images (3 where any of those looked at has colours, else 1), and their sizes.

    The same files are sampled every time; unreadable ones are skipped.

    Raises:
        BadFileError: all of them are unreadable.
    """
    headers: list[Header] = []
    failure: BadFileError | None = None
    for index in np.random.RandomState(0).permutation(len(files))[:_LOOKS]:
        try:
            headers.append(inspect(files.read(int(index)), files.name(int(index))))
        except BadFileError as error:
            failure = failure or error
    if not headers:
        raise failure or BadFileError("there is no file")
    by_size = sorted(((header.width, header.height) for header in headers), key=lambda size: (size[0] * size[1], size))
    return max(header.channels for header in headers), SizesSeen(len(headers), by_size[0], by_size[-1])


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadFileError(f"{name} has more than {MAX_BYTES} bytes")
    return data
