"""What a process prints, copied into the storage: logs that are there when the cluster is gone.

Owns the bound: a file that is full is put aside as NAME.1.log in place of the one before, so a log takes at most
twice MAX_BYTES and its end is always there.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from adadim_core.terminal import WrappedStream

MAX_BYTES = 1024 * 1024


class OutputLog:
    """Copies standard output and standard error of this process into a file until it is closed.

    Python's own streams only: what native code prints stays in Ray's logs. A log that cannot be written, on a full
    disk say, ends with a warning; it never stops the run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._size = 0
        self._ended = False
        self._streams = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = (_Copied(stream, self) for stream in self._streams)

    def write(self, text: str) -> None:
        """Add text, from any thread."""
        with self._lock:
            if self._ended:
                return
            try:
                # Opened at the first write: until then the folder may turn out to be another experiment's.
                self._file = self._file or self._open()
                self._file.write(text)
                self._file.flush()
                self._size += len(text.encode("utf-8", "replace"))
                if self._size >= MAX_BYTES:
                    self._file.close()
                    self._path.replace(self._path.with_suffix(".1" + self._path.suffix))
                    self._file = None
            except OSError as error:
                self._ended = True
                self._streams[1].write(f"the log {self._path} ends here: {error}\n")

    def line(self, text: str) -> None:
        """Add a line of the log's own, with the node's time and its distance from UTC."""
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}  {text}\n")

    def close(self) -> None:
        """Give the streams back."""
        sys.stdout, sys.stderr = self._streams
        with self._lock:
            self._ended = True
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()

    def _open(self) -> TextIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a", encoding="utf-8", errors="replace")
        self._size = self._path.stat().st_size
        return file


class _Copied(WrappedStream):
    """A stream whose text goes into a log as well. What is written to its `buffer` goes past the log."""

    def __init__(self, stream: TextIO, log: OutputLog) -> None:
        super().__init__(stream)
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # a terminal or a file in another encoding: what it lacks is escaped
            known = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            return self._stream.write(known)
