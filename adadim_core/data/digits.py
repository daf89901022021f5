"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels in 17 grey levels, part of the scikit-learn package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from adadim_core.data import recipes
from adadim_core.data.errors import DataError
from adadim_core.data.labels import hold_out
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.sources import ArrayImages

_HELD_OUT = 0.2


def load_digits(image_size: int | None = None) -> RawDataset:
    """The digits, split the same way every time: of each class, one fifth held out."""
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    pixels, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1]
    images = np.rint(pixels * (255 / 16)).astype(np.uint8)
    test = hold_out(labels, _HELD_OUT)
    return RawDataset(
        "digits",
        Part(ArrayImages(images[~test], image_size), labels[~test], "four fifths of each class"),
        Part(ArrayImages(images[test], image_size), labels[test], "a fifth of each class, held out"),
        recipes.DIGITS,
    )


def _file() -> Path:
    """The file in the installed package. Read directly: importing scikit-learn would cost each process seconds."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("scikit-learn is not installed")
    return Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
