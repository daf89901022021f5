"""`python -m adadim_core.data PATH`: what would be read of a data set, before anything is submitted.

Decodes the files, or a sample of many, so that unreadable ones are named.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from adadim_core.data.bad_files import find_bad
from adadim_core.data.errors import DataError
from adadim_core.data.raw import Part, RawDataset
from adadim_core.data.registry import dataset_names, read_raw
from adadim_core.data.roots import resolve
from adadim_core.data.summary import summarize
from adadim_core.spec import MAX_SPEC_BYTES, SpecError
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.notation import load
from adadim_core.terminal import safe_streams

_DECODED = 20_000
_NAMED = 100
_SIDE = 32

# A name in a folder, or that of the file, by which a published set is known.
_MARKS = {
    "train-images": "mnist",
    "cifar-100": "cifar100",
    "cifar-10": "cifar10",
    "data_batch_1": "cifar10",
    "stl10_binary": "stl10",
    "train_X.bin": "stl10",
}


def main(arguments: list[str] | None = None) -> int:
    """Print the facts about a data set. Returns 1 if it or some of its files cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m adadim_core.data", description=__doc__)
    parser.add_argument("path", help="file or folder of the data, as in data.path")
    parser.add_argument("--dataset", choices=[name for name in dataset_names() if DATASETS[name].needs_path])
    parser.add_argument("--image-size", type=int, help="side in pixels that images are to be resized to")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of lines")
    given = parser.parse_args(arguments)
    with safe_streams():  # names of files are others' text
        try:
            place = resolve(given.path)
            _refuse_spec(place)
            return _show(given.dataset or _guess(place), place, given.image_size, as_json=given.json)
        except DataError as error:
            print(error, file=sys.stderr)
            return 1


def _refuse_spec(place: Path) -> None:
    """Raises DataError for the file of a spec, with the path of its data if it has one."""
    if place.suffix.lower() not in (".yaml", ".yml", ".json") or not place.is_file():
        return
    try:
        with place.open("rb") as file:
            document = load(file.read(MAX_SPEC_BYTES + 1))
        data = document["data"]["path"]
    except (OSError, SpecError, LookupError, TypeError):
        data = None
    remedy = f"give its data.path, {data}" if isinstance(data, str) else "give a path as in data.path of a spec"
    raise DataError(
        f"{place} is not a data set but looks like a spec: {remedy} (`adadim submit --dry-run` checks specs)"
    )


def _guess(place: Path) -> str:
    if place.suffix == ".npz":
        return "npz"
    names = [place.name, *(sorted(entry.name for entry in place.iterdir()) if place.is_dir() else [])]
    return next((name for mark, name in _MARKS.items() for there in names if there.startswith(mark)), "image_folder")


def _show(name: str, place: Path, image_size: int | None, *, as_json: bool) -> int:
    raw = read_raw(name, path=place, image_size=image_size)
    varied = raw.sizes is not None and raw.sizes.smallest != raw.sizes.largest and image_size is None
    if varied:
        raw = read_raw(name, path=place, image_size=_SIDE)
    summary = summarize(raw, str(place))
    if not as_json:  # before files are decoded, which takes long
        print("\n".join(summary.lines()))
        if varied:
            print("the files have different sizes: set data.image_size", flush=True)
    files, bad = _decode(raw)
    if as_json:
        found = {"needs_image_size": varied, "files_decoded": files, "bad_files_found": bad}
        print(json.dumps({**summary.to_json(), **found}))
    elif files:
        print(f"files decoded: {files:,}{f', of which {len(bad):,} are bad:' if bad else ', all sound'}")
        print("".join(f"  {reason}\n" for reason in bad[:_NAMED]), end="")
        if len(bad) > _NAMED:
            print(f"  and {len(bad) - _NAMED:,} more")
    return 1 if bad else 0


def _decode(raw: RawDataset) -> tuple[int, list[str]]:
    """How many files were decoded, and why some could not be."""
    parts = [part for part in (raw.train, raw.test) if part is not None and part.images.may_be_bad]
    rows = [_sample(part, _DECODED // len(parts)) for part in parts]
    bad = [find_bad(part, chosen) for part, chosen in zip(parts, rows, strict=True)]
    return sum(map(len, rows)), [reason for found in bad for reason in found.values()]


def _sample(part: Part, most: int) -> list[int]:
    count = part.images.shape[0]
    return sorted(np.random.RandomState(0).permutation(count)[:most].tolist())


if __name__ == "__main__":
    sys.exit(main())
