"""A cheap fingerprint of the images of a data set, for a training that is resumed.

Covers names, sizes and labels of all images, and the stored bytes of a fixed sample. The location of the data, decoding
and resizing do not enter.
"""

import hashlib

import numpy as np

from adadim_core.data.raw import Part

_SAMPLE = 256


def fingerprint(train: Part, test: Part | None) -> str:
    """16 hexadecimal digits. Reads up to 512 images as they are stored.

    Raises:
        DataError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for part in (train, test):
        if part is not None:
            _add(digest, part)
        digest.update(b"/")
    return digest.hexdigest()[:16]


def _add(digest: "hashlib._Hash", part: Part) -> None:
    count = part.images.shape[0]
    digest.update(f"{count} {part.labels.shape[1:]} ".encode())
    digest.update(np.ascontiguousarray(part.labels).tobytes())
    for index in range(count if part.images.may_be_bad else 0):
        digest.update(part.images.name(index).encode("utf-8", "surrogateescape") + b"\0")
    rows = range(count) if count <= _SAMPLE else np.random.RandomState(0).permutation(count)[:_SAMPLE].tolist()
    for index in rows:
        digest.update(hashlib.sha256(part.images.content(index)).digest())
