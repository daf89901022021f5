"""The documentation: links and anchors lead somewhere, commands exist, code parses, the reference is complete."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import adadim
from adadim_core.spec import parse_spec
from adadim_core.spec.experiment import ExperimentSpec, dotted_paths
from service.cli.main import app
from tools.reference import slug, write

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "reference")
PAGES = [ROOT / "README.md", *WRITTEN]
HOW_TO = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?:[^\]]|\\\])*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?)\s*$", re.MULTILINE)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The generated pages by name."""
    return {path.name: path.read_text() for path in write(tmp_path_factory.mktemp("reference"))}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    found = _FENCE.findall(path.read_text())
    return [
        "\n".join(line[len(indent) :] for line in text.splitlines()) for indent, kind, text in found if kind == language
    ]


def prose(text: str) -> str:
    """A page without its code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    return {slug(heading) for heading in _HEADING.findall(_FENCE.sub("", text))}


def broken(path: Path, text: str, reference: dict[str, str]) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    for target in _LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        generated = reference.get(place.name) if place.parent == DOCS / "reference" else None
        if generated is None and not place.exists():
            yield f"{target}: no such file"
        elif path.is_relative_to(DOCS) and not place.is_relative_to(DOCS):
            yield f"{target}: outside of docs/, which the site does not have"
        elif anchor and anchor not in anchors(text if place == path else generated or place.read_text()):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_and_anchors_lead_somewhere(path: Path, reference: dict[str, str]) -> None:
    assert list(broken(path, path.read_text(), reference)) == []


def test_links_of_the_reference_lead_somewhere(reference: dict[str, str]) -> None:
    for name, text in reference.items():
        assert list(broken(DOCS / "reference" / name, text, reference)) == [], name


def test_a_link_that_leads_nowhere_is_found(reference: dict[str, str]) -> None:
    text = "[a](none.md) [b](method.md#none) [c](#none) [d](../README.md) `[e](none.md)` [f](reference/none.md)"
    assert len(list(broken(DOCS / "index.md", text, reference))) == 5


def test_the_site_has_every_page_once(reference: dict[str, str]) -> None:
    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(part)

    listed = sorted(pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    there = [str(path.relative_to(DOCS)) for path in WRITTEN] + [f"reference/{name}" for name in reference]
    assert listed == sorted(there)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("reference"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    write(tmp_path / "docs" / "reference")
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "build" / "docs").rglob("*.html"))
    assert len(pages) > len(WRITTEN)
    for page in pages:  # links may lead away; what the page itself needs may not
        loaded = re.findall(r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=\"?(https?:[^\" >]*)", page.read_text())
        assert loaded == [], page.name


def commands(path: Path) -> list[list[str]]:
    lines = "\n".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    simple = [re.sub(r"^\w+=\$\((.*)\)$", r"\1", line.strip()) for line in lines]
    found = [shlex.split(re.split(r" \| | > ", line)[0], comments=True) for line in simple]
    return [words[1:] for words in found if words and words[0] == "adadim"]


@pytest.mark.parametrize("words", [words for path in HOW_TO for words in commands(path)], ids=" ".join)
def test_commands_exist_with_their_options(words: list[str]) -> None:
    command: Any = get_command(app)
    words = [word.replace("$id", "7") for word in words]
    if words[0].startswith("--"):
        assert words[0] in [name for option in command.params for name in option.opts]
        return
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(command.name, list(words), resilient_parsing=False)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_python_on_the_page_parses(path: Path) -> None:
    for text in blocks(path, "python"):
        ast.parse(text)


@pytest.mark.parametrize("path", HOW_TO, ids=name_of)
def test_whole_specs_on_the_page_are_valid(path: Path) -> None:
    for text in blocks(path, "yaml"):
        if re.search(r"^name:", text, re.MULTILINE):
            parse_spec(text)


def test_the_reference_leaves_nothing_out(reference: dict[str, str]) -> None:
    for field in dotted_paths(ExperimentSpec(name="x").model_dump(mode="json")):
        if not field.startswith("labels."):
            assert f"`{field}`" in reference["spec.md"], field
    assert "`search.space`" in reference["spec.md"]
    assert "### objective.weighting: fixed" in reference["spec.md"]
    for route in ("POST /experiments", "GET /experiments/{experiment_id}/answer", "GET /healthz"):
        assert f"### `{route}`" in reference["api.md"]
    assert "| `metric` | text | The metric that ranks the trials. |" in reference["api.md"], "what the code says of it"
    root: Any = get_command(app)
    for name in root.commands:
        assert f"## adadim {name}" in reference["cli.md"]
    for name in adadim.__all__:
        assert name.startswith("_") or f"## {name}\n" in reference["client.md"]


def test_the_notebook_is_kept_without_output() -> None:
    for path in (ROOT / "examples").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells), path
