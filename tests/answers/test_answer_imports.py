"""What reads an answer needs no numpy, and what makes one no torch: clients and the service lack them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("adadim_core.answers.document, adadim_core.answers.terminal", {"numpy", "torch"}),
        ("adadim_core.answers.answer", {"torch", "scipy", "sklearn"}),
    ],
)
def test_no_more_is_loaded_than_needed(modules: str, unwanted: set[str]) -> None:
    code = f"import sys, {modules}; sys.exit(', '.join({unwanted!r} & set(sys.modules)) or None)"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
