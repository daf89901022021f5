"""Data sets by name. Owns the table and a small cache, so that trials run one after the other read a set once."""

from collections.abc import Callable

from adadim_core.data.dataset import ImageDataset
from adadim_core.data.digits import load_digits

_LOADERS: dict[str, Callable[[], ImageDataset]] = {"digits": load_digits}
_LOADED: dict[str, ImageDataset] = {}


def dataset_names() -> list[str]:
    """Every name `load_dataset` takes."""
    return sorted(_LOADERS)


def register_dataset(name: str, loader: Callable[[], ImageDataset]) -> None:
    """Make a data set known. A name that is taken is replaced."""
    _LOADERS[name] = loader
    _LOADED.pop(name, None)


def load_dataset(name: str) -> ImageDataset:
    """The data set of that name, on the CPU. Treat its tensors as read-only: they are shared.

    Raises:
        ValueError: no set has that name.
    """
    if name not in _LOADERS:
        raise ValueError(f"no data set is called {name!r}; known are {', '.join(dataset_names())}")
    if name not in _LOADED:
        _LOADED[name] = _LOADERS[name]()
    return _LOADED[name]
