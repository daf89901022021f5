"""What others wrote commands no terminal, through whichever command it reaches one."""

import io
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from adadim_core.console import SafeConsole
from adadim_core.data.__main__ import main as data_main
from adadim_core.terminal import LONGEST_LINE, safe_streams, terminal_text
from workers.__main__ import main as workers_main

HOSTILE = "\x1b]0;owned\x07 \x1b]52;c;cm0gLXJm\x07 \x9b2J \x1b[8m \u202eevil\u2066 \u2028 \r\x08 \x7f"


def commands(text: str) -> list[str]:
    """Characters of a text that a terminal acts on, or that turn what it shows around."""
    return [c for c in text if c not in "\n\t\u200c\u200d\xad" and unicodedata.category(c)[0] in "CZ" and c != " "
            and unicodedata.category(c) not in ("Co", "Cn", "Zs")]  # fmt: skip


@given(st.text())
@example(HOSTILE)
@example("\ud800")
def test_nothing_is_left_that_a_terminal_acts_on(text: str) -> None:
    shown = terminal_text(text)
    assert commands(shown) == []
    assert terminal_text(shown) == shown
    shown.encode()  # which half a surrogate pair does not


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
@example("Größe 变换 नमस्ते سلام 👩‍🔬 \ttab\n")
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert terminal_text(text, longest=None) == text


@given(st.lists(st.sampled_from(["a\n", "\x1b", "[31m", "\x1b[0m", "\u202e", "é", "\x9b", "0;x\x07"])))
def test_pieces_are_as_safe_as_the_whole(pieces: list[str]) -> None:
    whole = terminal_text("".join(pieces), longest=None)
    assert "".join(terminal_text(piece, longest=None) for piece in pieces) == whole


def test_colours_pass_where_they_may_and_nothing_else_does() -> None:
    text = "\x1b[1;31mred\x1b[0m \x1b[2J \x1b]0;t\x07 \x1b[31"
    assert terminal_text(text, colours=True) == "\x1b[1;31mred\x1b[0m \\x1b[2J \\x1b]0;t\\x07 \\x1b[31"
    assert "\x1b" not in terminal_text(text)


def test_long_lines_are_cut_each_by_itself() -> None:
    text = terminal_text("a\n" + "b" * 1_000_000 + "\nc")
    first, long, last = text.split("\n")
    assert (first, last) == ("a", "c")
    assert long == "b" * LONGEST_LINE + " ... 996000 more characters"


@pytest.mark.parametrize("soft_wrap", [True, False])
def test_the_console_says_nothing_but_its_own(soft_wrap: bool) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, width=60, force_terminal=False, markup=False)
    table = Table(HOSTILE)
    table.add_row(HOSTILE, style="red")
    for part in (HOSTILE, Text(HOSTILE, style="bold"), table):
        console.print(part, soft_wrap=soft_wrap)
    assert commands(file.getvalue()) == []
    assert "\\x1b]0;owned" in file.getvalue()


def test_streams_take_colours_and_no_commands() -> None:
    before, sys.stdout = sys.stdout, io.StringIO()
    try:
        with safe_streams():
            print(f"\x1b[32mgreen\x1b[0m {HOSTILE}")
            print("10%\r20%\rdone\r\n", end="")
        told = sys.stdout.getvalue()
    finally:
        sys.stdout = before
    assert told.startswith("\x1b[32mgreen\x1b[0m \\x1b]0;owned\\x07")
    assert told.endswith("10%\n20%\ndone\n")
    assert commands(told.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\x1b[8m", "")) == []


def test_the_workers_command_tells_hostile_names_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert workers_main([f"/nowhere/{HOSTILE}.yaml"]) == 1
    told = capsys.readouterr().err
    assert "\\x1b]0;owned" in told
    assert commands(told.replace("\x1b[8m", "")) == []


def test_names_of_files_in_a_data_set_command_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "train" / "class\x1b]0;owned\x07"
    folder.mkdir(parents=True)
    (folder / "bad\u202e.png").write_bytes(b"no image")
    data_main([str(tmp_path)])
    told = "".join(capsys.readouterr())
    assert "\\x1b]0;owned" in told
    assert commands(told) == []
