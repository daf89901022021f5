"""Image data sets: one module a format, one registry.

A set that fits is read whole and lives on the device as uint8; a larger one is decoded while it is trained on.
"""

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
