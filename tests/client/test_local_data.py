"""A relative data.path of a spec that is submitted: that of the spec's folder, or of the caller's."""

from pathlib import Path

import pytest

from adadim.spec_file import with_local_data
from adadim_core.spec import parse_spec

SPEC = "name: x\ntraining: {lr: 1e-3}\ndata: {dataset: image_folder, path: %s}\n"


def path_of(text: str) -> str | None:
    return parse_spec(text).data.path


def test_it_is_that_of_the_spec_s_folder_else_of_the_caller_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("specs/cats", "here/cats", "here/dogs"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    specs = tmp_path / "specs"
    assert path_of(with_local_data(SPEC % "cats", specs)) == str(specs / "cats")
    assert path_of(with_local_data(SPEC % "dogs", specs)) == str(tmp_path / "here" / "dogs")
    assert parse_spec(with_local_data(SPEC % "dogs", specs)).training.lr == 1e-3


def test_the_second_data_set_is_found_alike(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    text = SPEC % "/cats" + "evaluation: {transfer: {dataset: image_folder, path: birds}}\n"
    transfer = parse_spec(with_local_data(text, tmp_path)).evaluation.transfer
    assert transfer is not None
    assert transfer.path == str(tmp_path / "birds")


@pytest.mark.parametrize("text", [SPEC % "nowhere", SPEC % "/cats", SPEC % "~/cats", "name: x", "[", "- x", "data: 3"])
def test_everything_else_is_left_as_it_is_written(text: str, tmp_path: Path) -> None:
    assert with_local_data(text, tmp_path) == text
