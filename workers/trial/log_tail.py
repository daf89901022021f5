"""The last lines a process wrote about a trial, for the account of why it failed.

Reads the file that Ray sends a process's output to, so it has everything: log records, prints, and what native code
wrote. Where output goes to a terminal or a pipe there is nothing to read back.
"""

import os
import stat
import sys

_LINES = 20
_BYTES = 16 * 1024


class LogTail:
    """Remembers where the output files end now; `lines` are those after."""

    def __init__(self) -> None:
        self._starts = {}
        for descriptor in (1, 2):
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                self._starts[descriptor] = status.st_size

    def lines(self) -> list[str]:
        """The last lines written since, at most 20; of standard output first, then of standard error."""
        sys.stdout.flush()
        sys.stderr.flush()
        found: list[str] = []
        for descriptor, start in self._starts.items():
            end = os.fstat(descriptor).st_size
            try:
                # by its link: the descriptor itself is open for writing only
                with open(f"/proc/self/fd/{descriptor}", "rb") as file:  # noqa: PTH123
                    file.seek(max(start, end - _BYTES))
                    text = file.read(_BYTES).decode(errors="replace")
            except OSError:
                continue
            found += [line for line in text.splitlines() if line.strip() and not line.startswith(":")]
        return found[-_LINES:]
