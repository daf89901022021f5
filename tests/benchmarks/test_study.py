"""The study: its specs are valid and comparable, its images are those named, its page is made of its stored results."""

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import study
import study_figures
import study_report
from pages import into_page
from PIL import Image

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.estimates import mean_interval
from adadim_core.answers.numbers import signed
from adadim_core.report.material import Curve, Material
from adadim_core.spec import parse_spec
from adadim_core.spec.metrics import METRICS as TABLE
from adadim_core.spec.plan import plan_trials
from adadim_core.spec.seeds import SEED_PATH

SHARED = ("data", "model", "evaluation")
METRICS = ("knn_top1", "linear_top1", "h_r", "i_rz", "erank_r", "balance", "rankme")


def parsed(name: str):
    return parse_spec(study.specs()[name].read_text())


def test_the_sweeps_differ_in_what_they_ask_only():
    first = parsed("weighting")
    sweeps = [name for name in study.specs() if name != study.FULL_WIDTH]
    for name in sweeps:
        spec = parsed(name)
        same = first.training.model_dump() | {"batch_size": 256}
        assert spec.training.model_dump() == same
        assert spec.data == first.data
        assert spec.model == first.model
    assert sum(len(plan_trials(parsed(name))) for name in sweeps) == 131


def test_the_images_are_the_first_of_each_class(tmp_path: Path) -> None:
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
    study.write_images(tmp_path / "images.tar.xz", tmp_path / "made.npz", (3, 1))
    made = np.load(tmp_path / "made.npz")
    assert made["train_labels"].tolist() == [0, 0, 0, 1, 1, 1]  # bird, cat
    assert made["test_labels"].tolist() == [0, 1]
    assert made["train_images"][:, 0, 0, 0] == pytest.approx([0, 40, 80, 0, 40, 80], abs=3)
    assert made["test_images"][:, 0, 0, 1] == pytest.approx([100, 0], abs=3)


WEIGHTINGS = ["adaptive", "adaptive (dim)", "adaptive (log)", "adaptive (gain)", "adaptive (2048 rows)"]


@pytest.fixture
def material() -> Material:
    """The sweep of the weightings as if it had been run: accuracies that differ by configuration and seed, an H(R) that
    gains 1 in the first epoch and 2 later, give or take a seed's luck, and a flat I(R;Z)."""
    spec = parsed("weighting")
    plans = plan_trials(spec)
    rng = np.random.default_rng(0)
    rows = []
    for plan in plans:
        metrics = {name: float(0.4 + 0.03 * (plan.configuration % 4) + 0.004 * rng.normal()) for name in METRICS}
        rows.append(TrialRow(plan.number, plan.params, "succeeded", 10, 10, metrics))
    luck = {plan.number: 0.01 * (plan.params[SEED_PATH] % 2) for plan in plans}
    curves = {
        "alpha": {n: Curve([0.0, 3.0, 6.0], [0.1, 0.2, 0.3 + luck[n]]) for n in luck},
        "h_r": {n: Curve([0.0, 0.5, 1.0, 6.0], [1.0, 1.9, 2.0 + luck[n], 4.0]) for n in luck},
        "i_rz": {n: Curve([0.0, 1.0, 6.0], [1.0, 1.0, 1.0]) for n in luck},
    }
    return Material("study", spec.model_dump(mode="json"), answer(Question.of(spec), rows), curves, "made up")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, material: Material) -> Path:
    """The study's folder with that sweep stored, read back and reported."""
    (tmp_path / "results").mkdir()
    page = (study.STUDY / "README.md").read_text()
    (tmp_path / "README.md").write_text(
        re.sub(r"(<!-- (\S+) -->\n).*?(<!-- end \2 -->)", r"\1\3", page, flags=re.DOTALL)
    )
    specs = study.specs()
    monkeypatch.setattr(study, "specs", lambda: specs)
    for module in (study, study_report):
        monkeypatch.setattr(module, "STUDY", tmp_path)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    study.store("weighting", material)
    before = (tmp_path / "results" / "weighting.json.gz").read_bytes()
    found = study.stored()
    assert found["weighting"].answer == material.answer
    study.store("weighting", found["weighting"])
    assert (tmp_path / "results" / "weighting.json.gz").read_bytes() == before
    study_report.write(found)
    return tmp_path


def test_the_page_has_a_statement_a_table_and_a_figure_of_each_question_that_was_asked(
    written: Path, material: Material
) -> None:
    page = (written / "README.md").read_text()
    assert f"> {material.answer.sentence}" in page
    assert "| fixed 0.5 | 5 | 0." in page
    figures = {path.stem for path in (written / "figures").iterdir()}
    assert figures == {"weighting", "alpha", "phases", "plane", "label-free"}
    assert set(re.findall(r"\(figures/(.*)\.png\)", page)) == figures
    assert "![" not in page.partition("## 4.")[2].partition("## 8.")[0], "sweeps that were not run have no figure"


def test_gains_are_paired_by_seed_and_told_with_intervals(written: Path) -> None:
    lines = (written / "README.md").read_text().splitlines()
    luck = np.array([0.01 * (seed % 2) for seed in range(5)])
    half = mean_interval(luck).mean - mean_interval(luck).low
    entropy = next(line for line in lines if line.startswith("| linear 0 to 1 | H(R) |"))
    shown = f"| 1.00 ± 0.00 | 2.00 ± {half:.2f} | 4.00 ± 0.00 | +1.00 ± {half:.2f} | +2.00 ± {half:.2f} |"
    assert shown in entropy
    information = next(line for line in lines if line.startswith("| linear 0 to 1 | I(R;Z) |"))
    assert "| 0.00 ± 0.00 | 0.00 ± 0.00 |" in information


def test_adaptive_is_compared_with_each_other_weighting_as_the_statement_compares(
    written: Path, material: Material
) -> None:
    page = (written / "README.md").read_text()
    others = ["fixed 0", "fixed 0.5", "fixed 1", "linear 0 to 1", "cosine 0 to 1"]
    assert f"| k-NN accuracy of | {' | '.join(f'minus {label}' for label in others)} |" in page
    by_label = {c.label: c for c in material.answer.configurations}
    leader = next(c.label for c in material.answer.configurations if c.number == material.answer.leader)
    assert leader == "adaptive (log)", "so that the statement tells the differences of a row, the other way round"
    row = next(line for line in page.splitlines() if re.match(rf"\| {re.escape(leader)} \| [+−0.]+\d* \(", line))
    cells = dict(zip(others, row.strip("| ").split(" | ")[1:], strict=True))
    for label, cell in cells.items():
        told = by_label[label].differences[material.answer.metric]
        ends = f"({signed(-told.high_adjusted, 3)} to {signed(-told.low_adjusted, 3)})"
        mark = " *" if told.p_adjusted <= material.answer.method.level else ""
        assert cell == f"{signed(-told.mean, 3)} {ends}{mark}"
    assert {cell[-1] for cell in cells.values()} == {"*", ")"}


def test_what_a_measure_picks_is_the_configuration_of_that_number(written: Path, material: Material) -> None:
    page = (written / "README.md").read_text()
    for agreement in material.answer.without_labels:
        picked = next(c for c in material.answer.configurations if c.number == agreement.picks)
        assert f"| weighting | {TABLE[agreement.measure].title} | 10 |" in page
        row = next(line for line in page.splitlines() if f"| weighting | {TABLE[agreement.measure].title} |" in line)
        assert f" | {picked.label} | " in row


def test_alpha_of_every_normaliser_and_of_pooled_rows_is_drawn_with_its_interval(material: Material) -> None:
    drawn, caption = study_figures.drawings({"weighting": material})["alpha"]
    axes = drawn.axes[0]
    assert [line.get_label() for line in axes.lines] == WEIGHTINGS
    assert [line.get_ydata().tolist() for line in axes.lines] == [pytest.approx([0.1, 0.2, 0.304])] * 5
    assert len(axes.collections) == 5, "a band each"
    assert "95 % interval" in caption


def test_the_page_shows_the_stored_results():
    page = (study.STUDY / "README.md").read_text()
    found = study.stored()
    assert {Path(material.spec["data"]["path"]).parent for material in found.values()} == {Path()}
    assert into_page(page, study_report.texts(found)) == page, "run benchmarks/study.py report"
    shown = set(re.findall(r"\(figures/(.*)\.png\)", page))
    assert shown == {path.stem for path in (study.STUDY / "figures").glob("*.png")}
    answered = {"weighting": 3, "information": 1, "scale": 1, "temperature": 1, "full-width": 1, "label-free": 1}
    asked = sum(count for name, count in answered.items() if name in found or (name == "label-free" and found))
    assert page.count("**Verdict.** Not run yet.") == 8 - asked, "a question with results has a verdict"
