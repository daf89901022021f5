"""The study of docs/study: which of the method's open choices matter, run by the product itself.

    .venv/bin/python benchmarks/study.py data cifar10-images.tar.xz   images as specs name them: docs/study/specs/*.npz
                                              ... data ... --all      those of the full-width sweep too: 190 MB
    .venv/bin/python benchmarks/study.py run [weighting ...]          submit what is missing, wait, store the results
    .venv/bin/python benchmarks/study.py collect FOLDER               store those of a run of `python -m workers`
    .venv/bin/python benchmarks/study.py report                       figures and tables of docs/study/README.md

`run` goes to the service that the `adadim` command finds, so start `adadim serve` before. It may be ended at any time
and called again: experiments are known by their label `study`, and the service brings them to their end; one that
failed or was cancelled is submitted anew. Without a service, `python -m workers docs/study/specs/1-weighting.yaml
--storage FOLDER` does the same for one sweep, and `collect` stores it. Results are in docs/study/results, one file a
sweep. The sweep at full width is for a GPU, where gpu_suite.py runs it; `run` does so only if it is named.
"""

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from adadim_core.answers.document import Answer
from adadim_core.report.material import Curve, Material

STUDY = Path(__file__).parent.parent / "docs" / "study"
RESULTS = STUDY / "results"
IMAGES = STUDY / "specs" / "cifar10-10000.npz"
ALL_IMAGES = IMAGES.with_name("cifar10-50000.npz")
FULL_WIDTH = "full-width"
"""The sweep that two cores cannot run."""
CURVES = (
    "alpha", "beta", "h_r", "i_rz", "erank_r", "erank_z", "knn_top1", "uniformity", "alignment", "loss_dimension",
    "loss_sample", "loss_mi",
)  # fmt: skip
_EACH = {IMAGES: (1000, 500), ALL_IMAGES: (5000, 1000)}
"""Images of each class, for training and held out: the first of the archive."""


def specs() -> dict[str, Path]:
    """The sweeps by their label, in the order of their worth."""
    return {
        yaml.safe_load(path.read_text())["labels"]["study"]: path for path in sorted((STUDY / "specs").glob("*.yaml"))
    }


def write_images(archive: Path, target: Path, each: tuple[int, int]) -> None:
    """Write so many images of each class, training and held out, of an archive with PART/CLASS/NNNN.jpg."""
    found: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            part, *names = Path(member.name).parts[-3:]
            wanted = dict(zip(("train", "test"), each, strict=True)).get(part, 0)
            if not member.isfile() or len(names) != 2 or int(Path(names[1]).stem) >= wanted:
                continue
            content = opened.extractfile(member)
            assert content is not None
            pixels = np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))
            found.setdefault((part, names[0]), []).append((names[1], pixels))
    arrays: dict[str, Any] = {}
    classes = sorted({name for _, name in found})
    for part in ("train", "test"):
        images = [[pixels for _, pixels in sorted(found[part, name], key=lambda named: named[0])] for name in classes]
        arrays[f"{part}_images"] = np.concatenate([np.stack(own) for own in images])
        arrays[f"{part}_labels"] = np.repeat(np.arange(len(classes)), [len(own) for own in images])
    np.savez(target, **arrays)
    print(f"{target}: {len(arrays['train_images'])} training and {len(arrays['test_images'])} held-out images")


def run(names: list[str]) -> None:
    """Bring the sweeps to their end, one after the other, and store each when it is there."""
    import adadim

    with adadim.connect() as service:
        for name in names:
            known = [
                e for e in service.experiments(f"study={name}", limit=200) if e.state not in ("cancelled", "failed")
            ]
            experiment = known[0] if known else service.submit(specs()[name])
            print(f"{name}: {experiment.url}", flush=True)
            experiment.wait()
            if experiment.state != "succeeded":
                sys.exit(f"{name} {experiment.state}: see {experiment.url}")
            store(name, _from_service(experiment))


def _from_service(experiment: Any) -> Material:
    series = experiment.metrics(*CURVES, max_points=1000)
    curves: dict[str, dict[int, Curve]] = {}
    for part in series:
        curves.setdefault(part.metric, {})[part.trial] = Curve(list(part.epochs), list(part.values))
    answer = Answer.model_validate(experiment.answer().model_dump())
    return Material(experiment.name, experiment["spec"], answer, curves, f"experiment {experiment.id} of a service")


def collect(folder: Path) -> None:
    """Store the results of a run that was made without the service."""
    from adadim_core.report.run_folder import material_of_run

    material = material_of_run(folder, CURVES)
    store(material.spec["labels"]["study"], material)


def store(name: str, material: Material, folder: Path | None = None) -> None:
    """Write NAME.json.gz among the results or in a folder, the same file for the same results."""
    fields = asdict(material) | {"answer": material.answer.model_dump(mode="json")}
    data = fields["spec"]["data"]
    if data.get("path"):  # where it lay on this machine is nobody's business
        data["path"] = Path(data["path"]).name
    for curves in fields["curves"].values():
        for curve in curves.values():
            curve["values"] = [float(f"{value:.5g}") for value in curve["values"]]
            curve["epochs"] = [float(f"{epoch:.5g}") for epoch in curve["epochs"]]
    path = (folder or RESULTS) / f"{name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(fields).encode(), mtime=0))
    print(f"{path}: {material.answer.sentence}", flush=True)


def stored() -> dict[str, Material]:
    """The sweeps whose results are there, in the order of the specs."""
    return dict(_stored())


def _stored() -> Iterator[tuple[str, Material]]:
    for name in specs():
        path = RESULTS / f"{name}.json.gz"
        if path.exists():
            fields = json.loads(gzip.decompress(path.read_bytes()))
            curves = {
                metric: {int(trial): Curve(**curve) for trial, curve in trials.items()}
                for metric, trials in fields["curves"].items()
            }
            answer = Answer.model_validate(fields["answer"])
            yield name, Material(**{**fields, "answer": answer, "curves": curves})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("data", help="write the images")
    writing.add_argument("archive", type=Path)
    writing.add_argument("--all", action="store_true", help="those of the full-width sweep too")
    running = commands.add_parser("run", help="submit what is missing, wait, store")
    running.add_argument(
        "names", nargs="*", choices=[*specs(), []], help="sweeps by label; default: all but full-width"
    )
    commands.add_parser("collect", help="store a run folder's results").add_argument("folder", type=Path)
    commands.add_parser("report", help="figures and tables")
    arguments = parser.parse_args()
    match arguments.command:
        case "data":
            for target in (IMAGES, ALL_IMAGES) if arguments.all else (IMAGES,):
                write_images(arguments.archive, target, _EACH[target])
        case "run":
            run(arguments.names or [name for name in specs() if name != FULL_WIDTH])
        case "collect":
            collect(arguments.folder)
        case "report":
            from study_report import write

            write(stored())


if __name__ == "__main__":
    main()
