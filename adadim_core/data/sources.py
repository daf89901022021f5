"""Images that can be read one at a time, in any order, from several threads at once.

Owns what an image is read from: a row of an array; encoded files are in files.py. Holding or streaming them is decided
in assembly.py.

Shapes: N images of C channels, H rows and W columns.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adadim_core.data.errors import DataError
from adadim_core.data.pixels import Pixels, resize


class ImageSource(Protocol):
    """Images of one shape."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""

    @property
    def may_be_bad(self) -> bool:
        """Whether single images may turn out to be unreadable."""

    def image(self, index: int) -> Pixels:
        """(C, H, W). Raises DataError if it cannot be read."""

    def name(self, index: int) -> str:
        """What identifies the image before it is read: name and size of a file. Empty if nothing does."""

    def content(self, index: int) -> bytes:
        """The image as it is stored, before it is decoded or resized. Raises DataError if it cannot be read."""


class ArrayImages:
    """Rows of an array, which may be a mapped file: only the requested rows are read."""

    may_be_bad = False

    def __init__(self, images: Pixels, image_size: int | None) -> None:
        """images: (N, H, W, C), of 1 or 3 channels."""
        n, height, width, channels = images.shape
        self._images = images
        self._size = image_size if (height, width) != (image_size, image_size) else None
        self.shape = (n, channels, *((height, width) if image_size is None else (image_size, image_size)))

    def image(self, index: int) -> Pixels:
        pixels_HWC: Pixels = self._images[index]
        if self._size is not None:
            pixels_HWC = resize(pixels_HWC, self._size)
        return pixels_HWC.transpose(2, 0, 1)

    def name(self, index: int) -> str:  # noqa: ARG002 - a row has none
        return ""

    def content(self, index: int) -> bytes:
        return np.ascontiguousarray(self._images[index]).tobytes()


class JoinedImages:
    """Sources of one shape, one after the other."""

    def __init__(self, *parts: ImageSource) -> None:
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) != 1:
            raise DataError(f"the parts of the set have images of different shapes: {sorted(shapes)}")
        self._parts = parts
        self._ends = list(accumulate(part.shape[0] for part in parts))
        self.shape = (self._ends[-1], *parts[0].shape[1:])
        self.may_be_bad = any(part.may_be_bad for part in parts)

    def image(self, index: int) -> Pixels:
        part, row = self._place(index)
        return part.image(row)

    def name(self, index: int) -> str:
        part, row = self._place(index)
        return part.name(row)

    def content(self, index: int) -> bytes:
        part, row = self._place(index)
        return part.content(row)

    def _place(self, index: int) -> tuple[ImageSource, int]:
        part = bisect_right(self._ends, index)
        return self._parts[part], index - (self._ends[part - 1] if part else 0)


class SelectedImages:
    """Some of the images of a source, in the order of `rows`."""

    def __init__(self, source: ImageSource, rows: NDArray[np.integer]) -> None:
        self._source, self._rows = source, rows
        self.shape = (len(rows), *source.shape[1:])
        self.may_be_bad = source.may_be_bad

    def image(self, index: int) -> Pixels:
        return self._source.image(int(self._rows[index]))

    def name(self, index: int) -> str:
        return self._source.name(int(self._rows[index]))

    def content(self, index: int) -> bytes:
        return self._source.content(int(self._rows[index]))
