"""The report: its figures, tables and page show the numbers of the answer, and nothing else's."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pypdf import PdfReader

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer
from adadim_core.report import Curve, Material, write_report
from adadim_core.report.figures import intervals, mean_curve
from adadim_core.report.run_folder import NoRunError, material_of_run
from adadim_core.report.tables import latex_text, to_csv, to_latex
from adadim_core.spec import parse_spec
from adadim_core.spec.metrics import METRICS

SPEC = """
name: three-weightings
training: {epochs: 4, warmup_epochs: 0}
search:
  algorithm: grid
  seeds: 4
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: fixed, alpha: 1.0}, {policy: adaptive}]}
"""
DRAWN = ("intervals", "curves", "plane", "balance") if "balance" in METRICS else ("intervals", "curves", "plane")
SHIFTS = (0.0, -0.2, 0.05)


def rows() -> Iterator[TrialRow]:
    weightings: list[dict[str, Any]] = [{"policy": "fixed", "alpha": 0.0}, {"policy": "fixed", "alpha": 1.0}]
    for k, weighting in enumerate([*weightings, {"policy": "adaptive"}]):
        for seed in range(4):
            value = 0.8 + SHIFTS[k] + 0.004 * seed + 0.001 * (seed * k % 3)
            metrics = {"knn_top1": value, "h_r": 2.0 + k + 0.01 * seed, "i_rz": 1.0 + 0.02 * seed * k, "balance": 0.5}
            params = {"objective.weighting": weighting, "training.seed": seed}
            yield TrialRow(k * 4 + seed, params, "succeeded", 4, 4, metrics)


@pytest.fixture(scope="module")
def material() -> Material:
    spec = parse_spec(SPEC)
    found = answer(Question.of(spec), rows())
    epochs = [1.0, 2.0, 3.0, 4.0]
    curves = {
        name: {row.number: Curve(epochs, [row.metrics[name] * e / 4 for e in epochs]) for row in rows()}
        for name in ("knn_top1", "h_r", "i_rz")
    }
    versions = {"adadim": "1.2.3", "torch": "9.9"}
    return Material(spec.name, spec.model_dump(mode="json"), found, curves, "experiment 7 of http://lab", versions)


@pytest.fixture(scope="module")
def folder(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    written = write_report(material, folder)
    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


def text_of(pdf: Path) -> str:
    return " ".join(page.extract_text() for page in PdfReader(pdf).pages)


def test_the_figures_are_vector_files_with_embedded_fonts_and_their_provenance(folder: Path) -> None:
    for name in DRAWN:
        pdf = PdfReader(folder / "figures" / f"{name}.pdf")
        fonts = [font.get_object() for page in pdf.pages for font in page["/Resources"]["/Font"].values()]  # type: ignore[index]
        assert fonts
        for font in fonts:
            (descendant,) = font.get("/DescendantFonts", [font])
            assert "/FontFile2" in descendant.get_object()["/FontDescriptor"]
        assert pdf.metadata is not None
        assert pdf.metadata.title == "three-weightings"
        assert "experiment 7 of http://lab" in pdf.metadata["/Keywords"]
        assert "experiment 7 of http://lab" in (folder / "figures" / f"{name}.svg").read_text()


def test_the_interval_plot_names_every_configuration_and_its_axis(folder: Path) -> None:
    text = text_of(folder / "figures" / "intervals.pdf")
    assert all(label in text for label in ("adaptive", "fixed 0", "fixed 1", "k-NN accuracy", "0.80"))


def test_the_interval_plot_shows_the_end_of_a_long_label(material: Material) -> None:
    long = "adaptive, mutual_information=(gamma=3, sign=reward, schedule=follow, lag_epochs=2)"
    first, *others = material.answer.configurations
    told = material.answer.model_copy(update={"configurations": [first.model_copy(update={"label": long}), *others]})
    figure = intervals(replace(material, answer=told))
    assert figure is not None
    shown = figure.axes[0].get_yticklabels()[0].get_text()
    assert shown.replace("\n", " ") == long
    assert max(map(len, shown.split("\n"))) <= 44


def test_the_tables_have_the_answers_numbers(material: Material, folder: Path) -> None:
    table = list(csv.DictReader(io.StringIO((folder / "configurations.csv").read_text())))
    assert [row["configuration"] for row in table] == [c.label for c in material.answer.configurations]
    for row, configuration in zip(table, material.answer.configurations, strict=True):
        statistics = configuration.statistics["knn_top1"]
        assert (float(row["knn_top1_mean"]), float(row["knn_top1_low"])) == (statistics.mean, statistics.low)
        found = configuration.differences.get("knn_top1")
        assert row["p_holm"] == ("" if found is None else str(found.p_adjusted))
    assert to_csv(material.answer) == (folder / "configurations.csv").read_text()


def test_the_page_says_what_the_answer_says_and_needs_no_other_file(material: Material, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    seen = Reader.of(page)
    assert material.answer.sentence in seen.text
    assert "adaptive is best" in seen.text
    assert "paired t test" in seen.text
    assert "torch 9.9" in seen.text
    assert "python -m workers spec.yaml" in seen.text
    assert not [url for url in seen.addresses if not url.startswith("#")], "nothing is loaded"
    assert len(seen.ids) == len(set(seen.ids))
    assert page.count("<svg") == len(DRAWN)


def test_the_stored_spec_is_the_sweep_again(material: Material, folder: Path) -> None:
    assert parse_spec((folder / "spec.yaml").read_text()).model_dump(mode="json") == material.spec


def test_the_same_results_give_the_same_files(material: Material, folder: Path, tmp_path: Path) -> None:
    write_report(material, tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes(), path.name


def test_latex_special_characters_are_escaped(material: Material) -> None:
    assert latex_text("a_b & 5 % {x}") == r"a\_b \& 5 \% \{x\}"
    found = material.answer.model_copy(update={"sentence": "50 % of a_b"})
    body = to_latex(found, found.sentence)
    assert r"50 \% of a\_b" in body
    assert body.count("{") == body.count("}")
    assert not re.search(r"(?<!\\)[%_#]", body)


def test_a_single_run_and_a_sweep_without_results_still_give_a_page(material: Material, tmp_path: Path) -> None:
    empty: Answer = answer(Question.of(parse_spec(SPEC)), [])
    bare = Material("bare", material.spec, empty, {}, "here")
    write_report(bare, tmp_path)
    assert "<svg" not in (tmp_path / "report.html").read_text()
    assert "no comparison was made" in (tmp_path / "methods.txt").read_text()


def test_a_band_is_taken_where_all_replicates_measured() -> None:
    band = mean_curve([Curve([1, 2, 3], [1.0, 2.0, float("nan")]), Curve([1, 2, 3, 4], [3.0, 2.0, 3.0, 9.0])])
    assert band is not None
    epochs, mean, low, high = band
    assert (list(epochs), list(mean)) == ([1, 2], [2.0, 2.0])
    assert low[0] < 2 < high[0]
    assert low[1] == high[1] == 2.0
    assert mean_curve([]) is None


def test_a_runs_folder_gives_the_same_report(material: Material, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").write_text(json.dumps(material.spec))
    trials = [vars(row) | {"metrics": dict(row.metrics), "params": dict(row.params)} for row in rows()]
    (run / "results.json").write_text(json.dumps({"name": material.name, "trials": trials, "environment": {"a": "1"}}))
    points = [
        {"trial": trial, "metric": name, "step": 5 * k, "epoch": epoch, "time": 1e9, "value": value}
        for name, found in material.curves.items()
        for trial, curve in found.items()
        for k, (epoch, value) in enumerate(zip(curve.epochs, curve.values, strict=True))
    ]
    parquet.write_table(pa.Table.from_pylist(points), run / "points.parquet")
    read = material_of_run(run)
    assert (read.answer, read.curves, read.versions) == (material.answer, material.curves, {"a": "1"})
    assert material_of_run(run, ["h_r"]).curves == {"h_r": material.curves["h_r"]}
    write_report(read, tmp_path / "report")
    assert (tmp_path / "report" / "configurations.csv").read_text() == (folder / "configurations.csv").read_text()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no results.json"),
        ({"results.json": "{"}, "cannot be read"),
        ({"results.json": "[]"}, "is not what a run writes"),
        ({"results.json": '{"trials": [{}]}', "spec.json": "{}"}, "is not what a run writes"),
        ({"results.json": '{"trials": []}'}, "holds no spec.json"),
    ],
)
def test_a_folder_without_results_is_refused_in_a_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(NoRunError, match=said):
        material_of_run(tmp_path)


def test_neither_torch_nor_ray_is_imported() -> None:
    code = "import sys, adadim_core.report; print(sorted({'torch', 'ray'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


class Reader(HTMLParser):
    """Text, ids and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.ids: list[str] = []
        self.addresses: list[str] = []

    @classmethod
    def of(cls, page: str) -> "Reader":
        reader = cls()
        reader.feed(page)
        return reader

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")
