"""Logs in the storage: copied output, bounded, harmless when they cannot be written."""

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers import log as module
from workers.log import OutputLog


def test_what_is_printed_goes_where_it_went_and_into_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.stdout, sys.stderr
    log = OutputLog(tmp_path / "a" / "log.txt")
    assert not (tmp_path / "a").exists()  # until there is something to keep
    print("out Ä")
    print("err", file=sys.stderr)
    log.line("noted")
    log.close()
    print("later")
    assert (sys.stdout, sys.stderr) == before
    text = (tmp_path / "a" / "log.txt").read_text()
    assert text.startswith("out Ä\nerr\n")
    assert text.endswith("noted\n")
    assert capsys.readouterr() == ("out Ä\nlater\n", "err\n")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60), max_size=60))
def test_a_log_keeps_its_end_in_at_most_twice_the_bound(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    bound, module.MAX_BYTES = module.MAX_BYTES, 200
    try:
        log = OutputLog(folder / "log.txt")
        for piece in pieces:
            log.write(piece)
        log.close()
    finally:
        module.MAX_BYTES = bound
    files = [folder / "log.1.txt", folder / "log.txt"]
    kept = "".join(file.read_text() for file in files if file.exists())
    written = "".join(pieces)
    assert written.endswith(kept)
    assert len(kept.encode()) >= min(len(written.encode()), 200)
    assert all(file.stat().st_size < 200 + 60 * 4 for file in files if file.exists())


def test_a_log_that_cannot_be_written_says_so_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    log = OutputLog(tmp_path / "file" / "log.txt")
    print("one", file=sys.stderr)
    print("two", file=sys.stderr)
    log.close()
    assert errors.getvalue().count("ends here") == 1
    assert "one\n" in errors.getvalue()
    assert "two\n" in errors.getvalue()


def test_what_else_a_stream_can_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    log = OutputLog(tmp_path / "log.txt")
    assert (sys.stdout.encoding, sys.stdout.errors) == ("latin-1", "replace")
    sys.stdout.reconfigure(line_buffering=True)
    assert stream.line_buffering
    sys.stdout.buffer.write(b"bytes")
    assert not hasattr(sys.stdout, "no_such_thing")
    log.close()
    assert stream.buffer.getvalue() == b"bytes"  # type: ignore[attr-defined]
