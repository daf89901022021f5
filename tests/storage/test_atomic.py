"""A file is the whole new one or the one before, and nothing else stays."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from adadim_core.storage.atomic import leftovers, write_atomically, write_text


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_text(path, "before")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail)
    assert [file.read_text() for file in path.parent.iterdir()] == ["before"]


def test_a_process_that_dies_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "before")
    child = os.fork()
    if child == 0:
        write_atomically(path, lambda file: (file.write(b"half"), file.flush(), os._exit(9)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_text() == "before"
    assert [file.read_bytes() for file in leftovers(path)] == [b"half"]


def test_what_was_there_can_be_kept(tmp_path: Path) -> None:
    path, kept = tmp_path / "a", tmp_path / "b"
    for text in ("one", "two", "three"):
        write_atomically(path, lambda file, text=text: file.write(text.encode()), keep=kept)
    assert (path.read_text(), kept.read_text()) == ("three", "two")


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    path, modes = tmp_path / "token", []

    def write(file: BinaryIO) -> None:
        modes.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.write(b"secret")

    write_atomically(path, write, mode=0o600)
    assert (modes, stat.S_IMODE(path.stat().st_mode)) == ([0o600], 0o600)
