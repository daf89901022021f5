"""`adadim init`: what it writes is a valid spec with comments, trains, and destroys no file."""

import itertools
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from click.testing import Result
from typer.testing import CliRunner

from adadim_core import Trainer
from adadim_core.spec import SpecError, json_schema, parse_spec, plan_trials
from adadim_core.spec.datasets import DATASETS
from adadim_core.spec.notation import load
from service.cli.main import app
from service.cli.spec_template import Size, Vary, Wishes, template

DATA = {name: "/data/images" if dataset.needs_path else None for name, dataset in DATASETS.items()}
WISHES = [
    *(Wishes(vary=vary, size=size) for vary, size in itertools.product(get_args(Vary), get_args(Size))),
    *(Wishes(dataset=name, path=path) for name, path in DATA.items() if path),
]
SCHEMA = jsonschema.Draft202012Validator(json_schema())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adadim(*words: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *words], input=answers)


@pytest.mark.parametrize("wishes", WISHES, ids=lambda wishes: f"{wishes.dataset} {wishes.vary} {wishes.size}")
def test_every_spec_fits_the_schema_and_is_as_wished(wishes: Wishes) -> None:
    text, spec = template(wishes)
    SCHEMA.validate(load(text))
    assert (spec.data.dataset, spec.data.path) == (wishes.dataset, wishes.path)
    configurations = {"nothing": 1, "weighting": 4, "weighting-and-lr": 12}[wishes.vary]
    assert len(plan_trials(spec)) == configurations * (1 if wishes.vary == "nothing" else wishes.seeds)
    assert max(map(len, text.splitlines())) <= 105
    assert text.count("#") >= 10


@pytest.mark.parametrize("name", ["true", "1e3", "2026-01-01", "a b", "null", "run.1"])
def test_names_are_names_whatever_yaml_makes_of_them(name: str) -> None:
    path = f"/data/{name}: 'of \\ #1'"
    _, spec = template(Wishes(name=name, dataset="npz", path=path))
    assert (spec.name, spec.data.path) == (name, path)


def test_wishes_that_contradict_each_other_are_refused() -> None:
    for wishes, words in (
        (Wishes(dataset="cifar10"), "cifar10 needs path"),
        (Wishes(path="/x"), "digits takes no path"),
        (Wishes(name="a/b"), "/name"),
        (Wishes(vary="weighting-and-lr", seeds=500), "more than 1000 trials"),
    ):
        with pytest.raises(SpecError, match=words):
            template(wishes)


def test_what_it_writes_trains() -> None:
    _, spec = template(Wishes(epochs=1))
    trial = spec.with_params(plan_trials(spec)[-1].params)
    reported: dict[str, float] = {}
    Trainer(trial, report=lambda step, epoch, values: reported.update(values)).fit()
    assert {"h_r", "i_rz", "knn_top1"} <= set(reported)


def test_flags_alone_write_a_file_and_no_file_is_written_over(folder: Path) -> None:
    written = adadim("mine.yaml", "--name", "mine", "--seeds", "3", "--epochs", "7")
    assert written.exit_code == 0, written.output
    assert "4 configurations x 3 seeds = 12 trials" in " ".join(written.output.split())
    spec = parse_spec((folder / "mine.yaml").read_text())
    assert (spec.name, spec.training.epochs) == ("mine", 7)
    again = adadim("mine.yaml", "--name", "other")
    assert (again.exit_code, again.stderr) == (1, "Error: mine.yaml exists; name another file: adadim init FILE\n")
    assert parse_spec(adadim("-").output).name == "my-sweep"


def test_questions_are_asked_at_a_terminal_for_what_is_not_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.init._at_a_terminal", lambda: True)
    answers = "asked\nimagenet\ncifar10\n/data/cifar\npaper\nweighting\n4\n"
    result = adadim(answers=answers)
    assert result.exit_code == 0, result.output
    assert "'imagenet' is none of digits" in result.output, "and it was asked again"
    assert "www.cs.toronto.edu" in result.output, "where the files come from"
    spec = parse_spec((folder / "experiment.yaml").read_text())
    assert (spec.name, spec.data.path, spec.model.backbone) == ("asked", "/data/cifar", "resnet18")
    assert len(plan_trials(spec)) == 16
    result = adadim("other.yaml", "--name", "given", "--dataset", "digits", "--vary", "nothing", "--size", "small")
    assert result.exit_code == 0
    assert "Name" not in result.output


def test_a_refusal_names_the_field(folder: Path) -> None:
    refused = adadim("--dataset", "cifar10", "--name", "a/b")
    assert refused.exit_code == 1
    assert "cifar10 needs path" in refused.stderr
    assert "/name" in refused.stderr
    unknown = adadim("--dataset", "imagenet")
    assert "no data set imagenet: there are digits" in unknown.stderr
    assert list(folder.iterdir()) == []
