"""The study: its specs are valid and comparable, its images are those named, its page is made of its stored results."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import study
import study_report
from pages import into_page
from PIL import Image

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.report.material import Curve, Material
from adadim_core.spec import parse_spec
from adadim_core.spec.plan import plan_trials

SHARED = ("data", "model", "evaluation")
METRICS = ("knn_top1", "linear_top1", "h_r", "i_rz", "erank_r", "balance", "rankme")


def parsed(name: str):
    return parse_spec(study.specs()[name].read_text())


def test_the_sweeps_differ_in_what_they_ask_only():
    first = parsed("weighting")
    for name in study.specs():
        spec = parsed(name)
        same = first.training.model_dump() | {"batch_size": 256}
        assert spec.training.model_dump() == same
        assert spec.data == first.data
        assert spec.model == first.model
    assert sum(len(plan_trials(parsed(name))) for name in study.specs()) == 104


def test_the_images_are_the_first_of_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_TRAIN", 3)
    monkeypatch.setattr(study, "_HELD_OUT", 1)
    with tarfile.open(tmp_path / "images.tar.xz", "w:xz") as archive:
        for part in ("train", "test"):
            for place, name in enumerate(("cat", "bird")):  # not in order, as archives may be
                for number in (4, 2, 0, 1, 3):
                    content = io.BytesIO()
                    colour = (40 * number, 100 * place, 200 * (part == "test"))
                    Image.new("RGB", (32, 32), colour).save(content, "JPEG", quality=95)
                    member = tarfile.TarInfo(f"{part}/{name}/{number:04}.jpg")
                    member.size = content.tell()
                    content.seek(0)
                    archive.addfile(member, content)
    study.write_images(tmp_path / "images.tar.xz", tmp_path / "made.npz")
    made = np.load(tmp_path / "made.npz")
    assert made["train_labels"].tolist() == [0, 0, 0, 1, 1, 1]  # bird, cat
    assert made["test_labels"].tolist() == [0, 1]
    assert made["train_images"][:, 0, 0, 0] == pytest.approx([0, 40, 80, 0, 40, 80], abs=3)
    assert made["test_images"][:, 0, 0, 1] == pytest.approx([100, 0], abs=3)


@pytest.fixture
def material() -> Material:
    """The sweep of the weightings as if it had been run: accuracies that differ by configuration and seed."""
    spec = parsed("weighting")
    plans = plan_trials(spec)
    rng = np.random.default_rng(0)
    rows = []
    for plan in plans:
        metrics = {name: float(0.4 + 0.03 * (plan.configuration % 4) + 0.004 * rng.normal()) for name in METRICS}
        rows.append(TrialRow(plan.number, plan.params, "succeeded", 10, 10, metrics))
    curves = {
        metric: {plan.number: Curve([1.0, 5.0, 10.0], [0.1, 0.2, 0.3 + 0.01 * plan.number]) for plan in plans}
        for metric in ("alpha", "h_r", "i_rz")
    }
    return Material("study", spec.model_dump(mode="json"), answer(Question.of(spec), rows), curves, "made up")


def test_figures_and_tables_are_made_of_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, material
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "README.md").write_text((study.STUDY / "README.md").read_text())
    specs = study.specs()
    monkeypatch.setattr(study, "specs", lambda: specs)
    for module in (study, study_report):
        monkeypatch.setattr(module, "STUDY", tmp_path)
    study.store("weighting", material)
    before = (tmp_path / "results" / "weighting.json.gz").read_bytes()
    found = study.stored()
    assert found["weighting"].answer == material.answer
    study.store("weighting", found["weighting"])
    assert (tmp_path / "results" / "weighting.json.gz").read_bytes() == before
    study_report.write(found)
    page = (tmp_path / "README.md").read_text()
    assert material.answer.sentence in page
    assert "| fixed 0.5 | 5 | 0." in page
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"weighting", "alpha", "phases", "plane"}
    shown = study_report.drawings(found)
    assert [line.get_label() for line in shown["alpha"].axes[0].lines] == [
        "adaptive", "adaptive (dim)", "adaptive (log)", "adaptive (gain)", "adaptive (2048 rows)",
    ]  # fmt: skip
    assert len(shown["phases"].axes[0].lines) == 6


def test_the_page_shows_the_stored_results():
    page = (study.STUDY / "README.md").read_text()
    assert into_page(page, study_report.texts(study.stored())) == page, "run benchmarks/study.py report"
