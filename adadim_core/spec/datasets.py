"""The data sets a spec may name: what is known of each before anything is read, and its words.

How a set is read is in adadim_core/data/registry.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a data set without its files."""

    name: str
    """What `data.dataset` calls it."""
    title: str
    """What people call it."""
    origin: str
    """Where its files come from, or how they must lie: for those who lack them."""
    needs_path: bool = True
    """Whether `data.path` says where it is; otherwise it comes with a package."""
    train_images: int | None = None
    """Training images, where every copy of the set has as many."""
    test_images: int | None = None
    """Test images, where every copy of the set has as many."""
    one_label: bool = True
    """Whether every image has one class in every copy of the set (STL-10's unlabelled ones apart)."""
    side: int | None = None
    """Side of its images in pixels, where every copy of the set has the same."""


_TABLE = (
    Dataset(
        name="digits",
        title="digits",
        origin="its images come with scikit-learn",
        needs_path=False,
        train_images=1_438,
        test_images=359,
        side=8,
    ),
    Dataset(
        name="mnist",
        title="MNIST",
        origin="the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
        "t10k-labels-idx1-ubyte.gz are published at yann.lecun.com/exdb/mnist and its mirrors",
        train_images=60_000,
        test_images=10_000,
        side=28,
    ),
    Dataset(
        name="fashion_mnist",
        title="Fashion-MNIST",
        origin="the four .gz files are published at github.com/zalandoresearch/fashion-mnist; Debian's package "
        "dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist",
        train_images=60_000,
        test_images=10_000,
        side=28,
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        origin="the archives are published at www.cs.toronto.edu/~kriz/cifar.html",
        train_images=50_000,
        test_images=10_000,
        side=32,
    ),
    Dataset(
        name="cifar100",
        title="CIFAR-100",
        origin="the archives are published at www.cs.toronto.edu/~kriz/cifar.html",
        train_images=50_000,
        test_images=10_000,
        side=32,
    ),
    Dataset(
        name="stl10",
        title="STL-10",
        origin="stl10_binary.tar.gz is published at cs.stanford.edu/~acoates/stl10",
        test_images=8_000,
        side=96,
    ),
    Dataset(name="medmnist", title="MedMNIST", origin="the .npz files are published at medmnist.com", one_label=False),
    Dataset(
        name="image_folder",
        title="image folder",
        origin="path names a folder or a .tar, .tar.gz or .tar.xz archive with train/<class>/* and, if there are test "
        "images, test/<class>/* (or val, valid, validation)",
        one_label=False,
    ),
    Dataset(
        name="npz",
        title="NumPy file",
        origin="path names a file that numpy.savez wrote with train_images and, as far as there are, train_labels, "
        "test_images and test_labels",
        one_label=False,
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _TABLE}
"""Every data set by name."""

if TYPE_CHECKING:
    DatasetName = str
else:  # a Literal, so that JSON Schema and error messages list the names
    DatasetName = Literal[tuple(DATASETS)]
