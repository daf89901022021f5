"""Image data sets as tensors: one module a set, one registry. A set is read whole and lives on the device as uint8."""

from adadim_core.data.dataset import ImageDataset
from adadim_core.data.registry import dataset_names, load_dataset, register_dataset

__all__ = ["ImageDataset", "dataset_names", "load_dataset", "register_dataset"]
