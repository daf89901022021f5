"""Functions that read one file of each kind of untrusted input, as the project does: for cost_of_reading.py.

Imports stand in the functions: each is run in a process that needs its own only.
"""

from pathlib import Path
from typing import Literal


def spec_yaml(path: Path) -> None:
    _read_spec(path, "yaml")


def spec_json(path: Path) -> None:
    _read_spec(path, "json")


def _read_spec(path: Path, syntax: Literal["yaml", "json"]) -> None:
    from adadim_core.spec import problems
    from service.experiments.service import read_spec

    problems._schema()  # of which the first that is refused would pay the making
    read_spec(path.read_bytes(), syntax, 1000)


def report_json(path: Path) -> None:
    from service.attempts.body import parse

    parse(path.read_bytes(), "application/json")


def report_binary(path: Path) -> None:
    from adadim_core.spec.report_binary import MEDIA_TYPE
    from service.attempts.body import parse

    parse(path.read_bytes(), MEDIA_TYPE)


def spool(path: Path) -> None:
    from workers.storage.spool import SpoolReader, to_report

    reader = SpoolReader(path)
    while True:
        points, end = reader.read(10_000)
        if points:
            to_report(points)
        if end == reader.offset:
            return
        reader.offset = end


def cifar_batch(path: Path) -> None:
    from adadim_core.data.batch_pickle import read_batch

    read_batch(path.read_bytes(), path, b"labels")


def npz(path: Path) -> None:
    from adadim_core.data.npz import load_npz

    load_npz(path, None)


def idx(path: Path) -> None:
    from adadim_core.data.idx import read_idx

    read_idx(path, 3)


def tar(path: Path) -> None:
    from adadim_core.data.archives import tar_members

    for member, read in tar_members(path):
        if member.size <= 2**20:
            read()


def run_folder(path: Path) -> None:
    from adadim_core.report.run_folder import material_of_run

    _in_folder(path, "results.json", lambda folder: material_of_run(folder))


def run_points(path: Path) -> None:
    from adadim_core.report.run_folder import material_of_run

    _in_folder(path, "points.parquet", lambda folder: material_of_run(folder))


def stored_json(path: Path) -> None:
    from workers.storage.folder import read_json

    read_json(path)


def image(path: Path) -> None:
    from adadim_core.data.pixels import decode

    decode(path.read_bytes(), path.name, channels=3, image_size=32)


RESULTS = (
    '{"name": "a", "trials": [{"number": 0, "params": {}, "state": "succeeded", "epoch": 1, "epochs": 1,'
    ' "metrics": {"h_r": 1.0}}]}'
)


def _in_folder(path: Path, name: str, read: object) -> None:
    """A run's folder with this file in the place of one of its own."""
    folder = path.with_name(f"{path.name}-run")
    folder.mkdir(exist_ok=True)
    (folder / "spec.json").write_text('{"name": "a"}')
    (folder / "results.json").write_text(RESULTS)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(path.read_bytes())
    read(folder)  # type: ignore[operator]
