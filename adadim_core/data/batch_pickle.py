"""The pickled batches of CIFAR, read without running anything that a pickle may name.

A pickle is a program that calls what it names. Here it can name three things, all of which become inert records of
their arguments; not even NumPy is called. Uses the unpickler in Python, because the one in C trusts a file on the size
of its tables.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adadim_core.data.errors import DataError


class _Record:
    """A call that the pickle asked for: its arguments, and the state set on its result."""

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


# Byte arrays, whose room is taken before their content is read, and sets, which hash what they hold. The published
# files are older than those.
_REFUSED = {
    code[0]
    for code in (
        pickle.BYTEARRAY8,
        pickle.NEXT_BUFFER,
        pickle.READONLY_BUFFER,
        pickle.EMPTY_SET,
        pickle.ADDITEMS,
        pickle.FROZENSET,
    )
}


class _Batch(dict[Any, Any]):
    """The dictionaries of a pickle. Its keys are names: hashing deeply nested tuples takes forever."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) not in (bytes, str):
            raise pickle.UnpicklingError(f"it has a {type(key).__name__} for a key")
        super().__setitem__(key, value)


_Interpreter: Any = vars(pickle)["_Unpickler"]
"""The one in Python, of which the type stubs know little."""


class _Unpickler(_Interpreter):  # type: ignore[misc]
    dispatch = {code: step for code, step in _Interpreter.dispatch.items() if code not in _REFUSED}

    def load_empty_dictionary(self) -> None:
        self.append(_Batch())

    def load_dict(self) -> None:
        items = self.pop_mark()
        batch = _Batch()
        for key, value in zip(items[::2], items[1::2], strict=True):
            batch[key] = value
        self.append(batch)

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary
    dispatch[pickle.DICT[0]] = load_dict

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
        DataError: the file is not such a batch, names anything but arrays, or is truncated.
    """
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return _pixels(batch[b"data"]), _labels(batch[label_key])
    except Exception as error:  # a damaged program fails in any way
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{name} is truncated, damaged or not a CIFAR batch ({reason})") from error


def _labels(labels: Any) -> NDArray[np.int64]:
    """A flat list of integers. From nested lists NumPy would make arrays far larger than the file."""
    if type(labels) is not list or not all(type(label) is int for label in labels):
        raise TypeError("the labels are not a list of whole numbers")
    return np.array(labels, dtype=np.int64)


def _pixels(array: Any) -> NDArray[np.uint8]:
    """The array of bytes that a record describes."""
    if not isinstance(array, _Array):
        raise TypeError(f"data is a {type(array).__name__}, not an array")
    _, shape, dtype, fortran, content = array.state
    if not isinstance(dtype, _Dtype) or dtype.arguments[0] not in (b"u1", "u1"):
        raise TypeError("data is not an array of bytes")
    if type(content) is not bytes or type(shape) is not tuple or not all(type(side) is int for side in shape):
        raise TypeError("data is not an array of bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
