"""Specs to start from: the files of examples/, which an installation has beside its own."""

import sys
from pathlib import Path

import yaml

from service.experiments.schemas import ExampleRead

_FOLDERS = (Path(__file__).parents[2] / "examples", Path(sys.prefix) / "share" / "adadim" / "examples")
"""Of a checkout; of an installed package."""


def _read() -> list[ExampleRead]:
    folder = next(filter(Path.is_dir, _FOLDERS), None)
    files = sorted(folder.glob("*.yaml")) if folder else []
    return [_example(file.read_text()) for file in files]


def _example(text: str) -> ExampleRead:
    fields = yaml.safe_load(text)
    return ExampleRead(name=fields["name"], about=" ".join(fields.get("description", "").split()), text=text)


EXAMPLES = _read()
