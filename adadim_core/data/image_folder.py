"""A folder or tar archive of image files: `train/<class>/...`, and `test/<class>/...` or `val`, `valid`, `validation`.

Without held-out images a tenth of each class is held out, always the same. Classes are numbered in the order of their
names. Images outside class folders are trained on without labels. A folder and an archive of it are the same data set.
"""

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adadim_core.data import recipes
from adadim_core.data.errors import DataError
from adadim_core.data.files import FileImages, Names, look
from adadim_core.data.labels import UNLABELLED
from adadim_core.data.pixels import SUFFIXES
from adadim_core.data.raw import Part, RawDataset, split_parts
from adadim_core.data.skipped import EMPTY_FOLDER, NO_CLASS
from adadim_core.data.trees import SPLITS, Tree, join, open_tree

_TRAIN, *_HELD_OUT = SPLITS
_NAMED = 20


class _Index:
    """Names and labels of the files, training images first."""

    def __init__(self, path: Path, tree: Tree) -> None:
        self._path, self._tree = path, tree
        self.names = Names()
        self.classes: dict[str, int] = {}
        self.labels = array("q")
        self.unused: list[str] = []

    def list_train(self) -> str:
        """Take up the training images. Returns where they are."""
        tree = self._tree
        split = _TRAIN if _TRAIN in tree.splits else ""
        loose = list(tree.images(split, ""))
        if split:
            for class_name in tree.classes(split):
                found = self._add(split, class_name, label=len(self.classes))
                if found:
                    self.classes[class_name] = len(self.classes)
                else:
                    tree.skipped.add(EMPTY_FOLDER, join(split, class_name))
        elif not loose:
            raise DataError(f"{self._path} has no folder {_TRAIN!r}{_instead(tree)}")
        if self.classes:
            for name in loose:
                tree.skipped.add(NO_CLASS, join(split, name))
        else:
            self._take(split, "", loose, UNLABELLED)
        if not len(self.names):
            passed = ", ".join(f"{count} passed over ({reason})" for reason, count, _ in tree.skipped)
            raise DataError(
                f"{self._path} holds no image{f': {passed}' if passed else ''}; they must lie in train/<class>/ and "
                f"end in one of {', '.join(sorted(SUFFIXES))}"
            )
        return f"{split}/" if split else "the folder itself"

    def list_held_out(self) -> str | None:
        """Take up the first split with images of the classes. Returns its name."""
        used = None
        for split in (split for split in _HELD_OUT if split in self._tree.splits):
            if used is not None:
                self.unused.append(f"{split}/: {used}/ serves")
            elif not self.classes:
                self.unused.append(f"{split}/: the training images have no classes")
            elif self._list(split):
                used = split
        self.unused += [neighbour for neighbour in self._tree.neighbours if neighbour not in self.classes]
        return used

    def _list(self, split: str) -> bool:
        there = [name for name in self._tree.classes(split) if name in self.classes]
        listed = sum(self._add(split, name, label=self.classes[name]) for name in there)
        if not listed:
            self.unused.append(f"{split}/: its images are in no folders of the classes of {_TRAIN}/")
            return False
        for other in self._tree.classes(split):
            if other not in self.classes and any(True for _ in self._tree.images(split, other)):
                raise DataError(f"{self._path} has {split} images of {other!r}, a class without training images")
        return True

    def _add(self, split: str, class_name: str, label: int) -> int:
        return self._take(split, class_name, self._tree.images(split, class_name), label)

    def _take(self, split: str, class_name: str, names: Iterable[str], label: int) -> int:
        before = len(self.names)
        for name in names:
            self.names.append(join(split, class_name, name))
            self.labels.append(label)
        return len(self.names) - before


def load_image_folder(path: Path, image_size: int | None) -> RawDataset:
    tree = open_tree(path)
    index = _Index(path, tree)
    origin = index.list_train()
    trained = len(index.names)
    split = index.list_held_out()
    files = tree.files(index.names)
    channels, sizes = look(files)
    labels = np.frombuffer(index.labels, np.int64)

    def part(rows: range, origin: str) -> Part:
        return Part(
            FileImages(files, np.array(rows, np.int64), channels, image_size), labels[rows.start : rows.stop], origin
        )

    train = part(range(trained), origin)
    test = part(range(trained, len(labels)), f"{split}/") if split else None
    train, test = split_parts(train, test)
    return RawDataset(
        "image_folder",
        train,
        test,
        recipes.photos(channels, max(train.images.shape[2:])),
        class_names=tuple(index.classes) or None,
        skipped=tree.skipped,
        unused=tuple(index.unused[:_NAMED]),
        sizes=sizes,
    )


def _instead(tree: Tree) -> str:
    """What is there in place of the training folder."""
    there = tree.neighbours[:5] + (("...",) if len(tree.neighbours) > 5 else ())
    alike = next((name for name in tree.neighbours if name.rstrip("/").lower().startswith(_TRAIN)), None)
    if alike:
        return f"; {alike} must be called {_TRAIN}"
    return f"; it has {', '.join(there)}: put the folders of the classes into {_TRAIN}/" if there else ""
