"""The pickled batches of CIFAR, read without running anything that a pickle may name.

A pickle is a program that calls what it names. Here it can name three things, which all become inert records of
what they were called with; even NumPy itself is not called. The interpreter in Python, not C, because the C one takes
a file's word for the size of its tables.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adadim_core.data.errors import DataError


class _Record:
    """A call that the pickle asked for: what with, and the state set on its result."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    """numpy.core.multiarray._reconstruct"""


class _ArrayType(_Record):
    """numpy.ndarray"""


class _Dtype(_Record):
    """numpy.dtype"""


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
}


# Byte arrays, whose room is taken before their content is read. The published files are older than those.
_REFUSED = {pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]}


class _Unpickler(pickle._Unpickler):  # type: ignore[misc, name-defined, unused-ignore]
    dispatch = {code: step for code, step in pickle._Unpickler.dispatch.items() if code not in _REFUSED}  # type: ignore[attr-defined, unused-ignore]

    def find_class(self, module: str, name: str) -> type[_Record]:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which such a file does not hold") from None


def read_batch(data: bytes, name: Path | str, label_key: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (n, m) and labels (n,) of a pickled batch.

    Args:
        data: the file.
        name: what to call it in errors.
        label_key: the entry that holds the labels.

    Raises:
        DataError: the file is no such batch, names anything but arrays, or is truncated.
    """
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return _pixels(batch[b"data"]), np.asarray(batch[label_key], dtype=np.int64)
    except Exception as error:  # a damaged program fails in any way
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} is truncated, damaged or not a CIFAR batch ({reason})") from error


def _pixels(array: Any) -> NDArray[np.uint8]:
    """The array of bytes that a record stands for."""
    if not isinstance(array, _Array):
        raise TypeError(f"data is a {type(array).__name__}, not an array")
    _, shape, dtype, fortran, content = array.state
    if not isinstance(dtype, _Dtype) or dtype.arguments[0] not in (b"u1", "u1"):
        raise TypeError("data is not an array of bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
