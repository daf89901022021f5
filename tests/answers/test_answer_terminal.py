"""The answer on terminals of any width: the statement whole, the table as wide as there is room."""

import io

import pytest
from rich.console import Console
from sweep_rows import answer_to

from adadim_core.answers.terminal import render

VALUES = [[0.80, 0.82, 0.81], [0.86, 0.88, 0.87], [0.70, 0.73, 0.71]]


def shown(width: int) -> str:
    answer = answer_to(VALUES, {"h_r": VALUES, "i_rz": VALUES})
    console = Console(file=io.StringIO(), width=width)
    console.print(render(answer, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert answer.sentence in " ".join(text.split())
    return str(text)


@pytest.mark.parametrize(("width", "beside"), [(160, True), (80, False)])
def test_other_metrics_are_shown_where_there_is_room(width: int, beside: bool) -> None:
    head, *rows = shown(width).splitlines()
    assert ("H(R)" in head) == beside
    for label, row in zip(["fixed 0.1", "fixed 0", "fixed 0.2"], rows, strict=False):
        assert row.startswith(label)
