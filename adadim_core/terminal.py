"""What others wrote, as it may reach a terminal: names, reasons, errors, paths and logs command nothing there.

Owns the one function for it, and plain streams that use it; console.py is the console that does. Every command prints
through one of them.
"""

import contextlib
import io
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

LONGEST_LINE = 4_000
"""Characters of a line that are shown: a terminal takes minutes for a line of megabytes."""
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,40}m")
_SUSPECT = re.compile(r"[^\n\t\x20-\x7e\xa1-\xac\xae-\u036f\u0370-\u03ff\u0400-\u052f\u4e00-\u9fff]")
"""All but what is plain at a glance, most text in most languages."""
_JOINERS = "\u200c\u200d\xad"
"""Format characters that words and emoji need, which do nothing but join and part."""
_TOKEN = re.compile(rf"{_COLOUR.pattern}|{_SUSPECT.pattern}")


def terminal_text(text: str, *, colours: bool = False, longest: int | None = LONGEST_LINE) -> str:
    """A text that a terminal shows and nothing more: what would command it is written out, as `\\x1b` or `\\u202e`.

    Those are control characters of both sets, escapes with them, characters that turn the direction of a line around
    (bidi overrides and isolates), other invisible ones, separators of lines, and halves of surrogate pairs. It may be
    applied to a text piece by piece, and twice.

    Args:
        text: anything.
        colours: leave whole sequences that set colours.
        longest: characters of a line that are kept; None: all.
    """
    if longest is not None and len(text) > longest:
        text = "\n".join(_cut(line, longest) for line in text.split("\n"))

    def written_out(found: re.Match[str]) -> str:
        one = found[0]
        if len(one) > 1:
            return one if colours else _escaped(one[0]) + one[1:]
        return _escaped(one) if _commands(one) else one

    return _TOKEN.sub(written_out, text)


def _cut(line: str, longest: int) -> str:
    return line if len(line) <= longest else f"{line[:longest]} ... {len(line) - longest} more characters"


def _commands(one: str) -> bool:
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in _JOINERS


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "surrogatepass").decode()


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Standard output and error take plain text only, and colours: also of what libraries print."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Safe(sys.stdout), _Safe(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class WrappedStream(io.TextIOBase):
    """A stream that writes in a way of its own. Everything else is that of the stream it is around."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors


class _Safe(WrappedStream):
    """A stream whose text goes through `terminal_text`."""

    def write(self, text: str) -> int:
        # Progress bars go back to the start of their line: that is a new one here, which covers nothing.
        plain = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        self._stream.write(terminal_text(plain, colours=True))
        return len(text)
