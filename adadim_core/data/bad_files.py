"""Files that cannot be decoded: all of them named, or left out within a bound.

Owns what `data.bad_files` means. Every process that reads the same files leaves out the same ones.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from adadim_core.data.errors import BadFileError, DataError
from adadim_core.data.raw import Part, RawDataset

_NAMED = 20
_SHARE, _ALWAYS, _LARGEST_SHARE = 0.01, 10, 0.1
_TASK = 64


def find_bad(part: Part, rows: Iterable[int] | None = None) -> dict[int, str]:
    """Rows of images that cannot be decoded, each with the reason. Decodes all of them, or those given.

    Raises:
        DataError: the images do not have one size.
    """
    if not part.images.may_be_bad:
        return {}
    wanted = list(range(part.images.shape[0]) if rows is None else rows)

    def look(start: int) -> dict[int, str]:
        found = {}
        for row in wanted[start : start + _TASK]:
            try:
                part.images.image(row)
            except BadFileError as error:
                found[row] = str(error)
        return found

    bad: dict[int, str] = {}
    with ThreadPoolExecutor(max(2, torch.get_num_threads()), thread_name_prefix="check") as pool:
        try:
            for found in pool.map(look, range(0, len(wanted), _TASK)):
                bad |= found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return bad


def without_bad(raw: RawDataset) -> RawDataset:
    """The set without the files that cannot be decoded. Decodes all files once.

    Raises:
        DataError: they are more than 1 % of the files and more than ten, or more than a tenth.
    """
    parts = [part for part in (raw.train, raw.test) if part is not None]
    bad = [find_bad(part) for part in parts]
    reasons = [reason for found in bad for reason in found.values()]
    if not reasons:
        return raw
    files = sum(part.images.shape[0] for part in parts)
    bound = max(1, min(max(int(files * _SHARE), _ALWAYS), int(files * _LARGEST_SHARE)))
    if len(reasons) > bound:
        raise all_named(reasons, f"{len(reasons)} of {files} files are bad, more than the {bound} that may be left out")
    left = [
        part.select(np.setdiff1d(np.arange(part.images.shape[0]), list(found)))
        for part, found in zip(parts, bad, strict=True)
    ]
    if not all(part.images.shape[0] for part in left):
        raise all_named(reasons, "without its bad files a part of the set is empty")
    return replace(raw, train=left[0], test=left[1] if len(left) > 1 else None, bad_files=tuple(reasons))


def name_bad(raw: RawDataset) -> DataError | None:
    """The error that names all bad files of a set; None: there is none. Decodes all files."""
    reasons = [reason for part in (raw.train, raw.test) if part is not None for reason in find_bad(part).values()]
    if not reasons:
        return None
    if len(reasons) == 1:
        return BadFileError(f"{reasons[0]}; data.bad_files: skip goes on without such files")
    return all_named(reasons, f"{len(reasons)} files are bad; data.bad_files: skip goes on without a few such files")


def all_named(reasons: list[str], what: str) -> DataError:
    more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    return DataError(f"{what}: {'; '.join(reasons[:_NAMED])}{more}")
