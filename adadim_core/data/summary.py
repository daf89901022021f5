"""Summary of a data set, for people and for comparison: images, classes, sizes, splits, skipped files.

Owns the facts and their words. The same facts are in a trial's log, results.json, the model card, the API and the page,
and `python -m adadim_core.data` prints them.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adadim_core.data.fingerprint import fingerprint
from adadim_core.data.labels import UNLABELLED, class_counts, what_to_evaluate
from adadim_core.data.raw import Part, RawDataset, SizesSeen

_CLASSES_LISTED = 100
_CLASSES_SHOWN = 10
_BAD_FILES_LISTED = 100


@dataclass(frozen=True)
class Split:
    """Training or held-out images."""

    images: int
    labelled: int
    """Those with a class, or with labels."""
    origin: str
    """Where they come from."""


@dataclass(frozen=True)
class ClassCount:
    """Images of one class, or with one label."""

    name: str
    train: int
    held_out: int


@dataclass(frozen=True)
class PassedOver:
    """Files or folders that were not read for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """The facts about a data set."""

    dataset: str
    path: str | None
    fingerprint: str
    """Changes with the images, not with where they lie."""
    shape: tuple[int, int, int]
    """(C, H, W) as they are trained on."""
    sizes: SizesSeen | None
    """Of the files before they are resized; None: all have one size."""
    train: Split
    held_out: Split | None
    labels: str
    """none, one (a class an image) or several (labels an image)."""
    not_evaluated: str
    """Why R is not evaluated by k-NN and probes; empty: it is."""
    classes: int
    class_counts: tuple[ClassCount, ...]
    """The first hundred."""
    passed_over: tuple[PassedOver, ...]
    unused: tuple[str, ...]
    """What lies beside the images that were read and is not used."""
    bad_files: int
    """Files that were left out because they cannot be read."""
    bad_file_reasons: tuple[str, ...]
    """The first hundred of them, with the reason."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, with the lines for people beside the facts."""
        return {**asdict(self), "lines": list(self.lines())}

    def lines(self) -> Iterator[str]:
        """For people, one fact per line."""
        channels, height, width = self.shape
        yield (
            f"{self.dataset}{f' at {self.path}' if self.path else ''}: {channels} x {height} x {width} pixels, "
            f"fingerprint {self.fingerprint}"
        )
        yield f"training images: {self._split(self.train)}"
        yield f"held-out images: {self._split(self.held_out) if self.held_out else 'none'}"
        if self.sizes is not None and self.sizes.smallest != self.sizes.largest:
            smallest, largest = (f"{width} x {height}" for width, height in (self.sizes.smallest, self.sizes.largest))
            yield f"sizes of the files: {smallest} to {largest} ({self.sizes.looked_at:,} files looked at)"
        if self.classes:
            yield self._classes()
        if self.not_evaluated:
            yield f"k-NN and probes are left out: {self.not_evaluated}"
        elif self.labels == "several":
            yield "several labels an image: R is evaluated by knn_map; knn_top1 and probes are left out"
        for passed in self.passed_over:
            more = ", ..." if passed.count > len(passed.examples) else ""
            yield f"passed over: {passed.count:,} x {passed.reason}: {', '.join(passed.examples)}{more}"
        for name in self.unused:
            yield f"not used: {name}"
        if self.bad_files:
            yield f"bad files, left out: {self.bad_files:,}"
            for reason in self.bad_file_reasons:
                yield f"  {reason}"
            if self.bad_files > len(self.bad_file_reasons):
                yield f"  and {self.bad_files - len(self.bad_file_reasons):,} more"

    def _split(self, split: Split) -> str:
        unlabelled = split.images - split.labelled
        without = "" if not unlabelled else ", without labels" if not split.labelled else f", {unlabelled:,} unlabelled"
        return f"{split.images:,} ({split.origin}{without})"

    def _classes(self) -> str:
        what = "labels, several an image" if self.labels == "several" else "classes" if self.classes > 1 else "class"
        shown = [f"{count.name} {count.train:,}+{count.held_out:,}" for count in self.class_counts[:_CLASSES_SHOWN]]
        more = ", ..." if self.classes > _CLASSES_SHOWN else ""
        fewest, most = (take(count.train for count in self.class_counts) for take in (min, max))
        each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        spread = f", {each} training images each" if self.classes > _CLASSES_SHOWN else ""
        return f"{self.classes:,} {what}{spread} (training + held out): {', '.join(shown)}{more}"


def summarize(raw: RawDataset, path: str | None) -> DataSummary:
    """The facts about a set that was read. Reads a sample of the images as they are stored.

    Raises:
        DataError: one of them cannot be read.
    """
    train, test = raw.train, raw.test
    evaluation = what_to_evaluate(train.labels, None if test is None else test.labels)
    _, channels, height, width = train.images.shape
    classes, counts = _counts(raw)
    return DataSummary(
        dataset=raw.name,
        path=path,
        fingerprint=fingerprint(train, test),
        shape=(channels, height, width),
        sizes=raw.sizes,
        train=_split(train),
        held_out=None if test is None else _split(test),
        labels=evaluation.labels,
        not_evaluated=evaluation.missing,
        classes=classes,
        class_counts=counts,
        passed_over=tuple(PassedOver(*found) for found in raw.skipped),
        unused=raw.unused,
        bad_files=len(raw.bad_files),
        bad_file_reasons=raw.bad_files[:_BAD_FILES_LISTED],
    )


def _split(part: Part) -> Split:
    labelled = len(part.labels) if part.labels.ndim == 2 else int((part.labels != UNLABELLED).sum())
    return Split(part.images.shape[0], labelled, part.origin)


def _counts(raw: RawDataset) -> tuple[int, tuple[ClassCount, ...]]:
    parts = [part.labels for part in (raw.train, raw.test) if part is not None]
    highest = [labels.shape[1] - 1 if labels.ndim == 2 else int(labels.max(initial=-1)) for labels in parts]
    numbers = max(highest) + 1
    counted = [class_counts(labels, numbers) for labels in parts]
    train, test = counted[0], counted[1] if len(counted) > 1 else np.zeros(numbers, np.int64)
    names = raw.class_names or tuple(map(str, range(numbers)))
    there = np.flatnonzero(train + test)
    listed = tuple(ClassCount(names[i], int(train[i]), int(test[i])) for i in there[:_CLASSES_LISTED])
    return len(there), listed
