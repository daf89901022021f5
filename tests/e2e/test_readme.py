"""README's examples: specs are valid, commands exist, the library's snippet runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from adadim_core.spec import parse_spec, plan_trials
from service.cli.main import app

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def adadim_commands() -> list[list[str]]:
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("adadim ")]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_specs_are_valid(text: str) -> None:
    assert plan_trials(parse_spec(text))


@pytest.mark.parametrize("words", adadim_commands(), ids=" ".join)
def test_commands_exist_with_their_options(words: list[str]) -> None:
    command, context = get_command(app), None
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    assert context.params is not None


def test_the_librarys_snippet_runs(tmp_path: Path) -> None:
    (snippet,) = [text for text in blocks("python") if "adadim_core" in text]
    assert "epochs: 5" in snippet
    snippet = snippet.replace("epochs: 5", "epochs: 1")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    curves, rank = done.stdout.splitlines()
    assert curves.startswith("[(")
    assert float(rank.removeprefix("tensor(").partition(",")[0].rstrip(")")) > 1
    assert (tmp_path / "encoder" / "encoder.safetensors").exists()


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_shipped_examples_are_valid(file: Path) -> None:
    assert plan_trials(parse_spec(file.read_text()))
