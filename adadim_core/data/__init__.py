"""Image data sets: one module per format, one registry.

A set that fits is read whole and lives on the device as uint8; a larger one is decoded while it is trained on.

Names are looked up at their first use: `adadim_core.data.roots`, which a driver asks, needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adadim_core.data.dataset import ImageDataset, Images, image_batches
    from adadim_core.data.errors import DataError
    from adadim_core.data.labels import UNLABELLED
    from adadim_core.data.registry import dataset_names, load_dataset
    from adadim_core.data.streaming import StreamedImages
    from adadim_core.data.summary import DataSummary

__all__ = [
    "UNLABELLED",
    "DataError",
    "DataSummary",
    "ImageDataset",
    "Images",
    "StreamedImages",
    "dataset_names",
    "image_batches",
    "load_dataset",
]

_HOME = {
    name: module
    for module, names in {
        "dataset": ["ImageDataset", "Images", "image_batches"],
        "errors": ["DataError"],
        "labels": ["UNLABELLED"],
        "registry": ["dataset_names", "load_dataset"],
        "streaming": ["StreamedImages"],
        "summary": ["DataSummary"],
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
