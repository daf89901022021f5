"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels in 17 grey levels, part of the scikit-learn package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from adadim_core.data import recipes
from adadim_core.data.assembly import assemble, hold_out
from adadim_core.data.dataset import ImageDataset
from adadim_core.data.errors import DataError
from adadim_core.data.sources import ArrayImages

_HELD_OUT = 0.2


def load_digits(image_size: int | None = None) -> ImageDataset:
    """The digits, split the same way every time: of each class, one fifth held out."""
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    pixels, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1]
    images = np.rint(pixels * (255 / 16)).astype(np.uint8)
    test = hold_out(labels, _HELD_OUT)
    train, other = ArrayImages(images[~test], image_size), ArrayImages(images[test], image_size)
    return assemble("digits", train, labels[~test], other, labels[test], recipes.DIGITS)


def _file() -> Path:
    """The file in the installed package. Read as it is: importing scikit-learn would take each process seconds."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("scikit-learn is not installed")
    return Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
