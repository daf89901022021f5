"""Bytes of a process's output as text that can be stored and shown: whole characters, no colours, nothing that commands
a terminal but the return to the start of a line.
"""

import codecs
import re

from adadim_core.terminal import terminal_text

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_ESCAPE = 16


class Cleaner:
    """Turns pieces of output into text; what a piece cuts in two is held until the next one comes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, piece: bytes, *, last: bool = False) -> str:
        """The text that is complete with this piece; with `last`, all of it."""
        text = self._held + self._decoder.decode(piece, last)
        cut = text.rfind("\x1b", -_LONGEST_ESCAPE)
        if last or cut < 0 or _ESCAPE.match(text, cut):
            cut = len(text)
        self._held = text[cut:]
        plain = _ESCAPE.sub("", text[:cut]).replace("\0", "")
        return "\r".join(terminal_text(part, longest=None) for part in plain.split("\r"))
