"""The embedded PostgreSQL: real, from a pip package, under the state directory; for laptops and tests.

It outlives a service that is killed, and the next one takes it over; a service that stops stops it. One that is killed
is started again. The programs are the package's (programs.py); how they are started is ours, since the package's own
start hands paths to a shell, takes the environment's locale, and as root opens folders to everyone. How the directory
is made is initdb.py's.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import psutil

from adadim_core.retrying import Backoff
from adadim_core.storage.own_folder import find_own_folder, own_folder
from service.database.initdb import make_database
from service.database.programs import LOCALE, DatabaseNotStarted, as_user, last_words, programs

logger = logging.getLogger(__name__)

_TELL_S = 60.0
"""After how long a start is worth a word."""
_LONGEST_START_S = 600.0
_STOP_S = 30.0
_CHECK_S = 2.0
_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.02
_LONGEST_SOCKET_PATH = 100
"""Linux takes 107 characters, macOS 103, with the name of the socket."""
_TEMPORARY = Path("/tmp")  # noqa: S108 - the folder there is made sure of
_ROOTS_USER = 61_432
"""Who the server runs as where the service is root: a number without a name, in the range that no account gets."""


class EmbeddedPostgres:
    """A PostgreSQL server that listens on a Unix socket only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._log = self._directory / "log"
        long = len(os.fsencode(self._directory / ".s.PGSQL.5432.lock")) > _LONGEST_SOCKET_PATH
        name = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
        self._short_folder = f"adadim-pg-{name}" if long else None
        self._watch: asyncio.Task[None] | None = None
        self._starting: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        """Nobody waits for it to start any more."""
        self.trouble: str | None = None
        """Why it is down at the moment; None: it runs."""

    async def start(self) -> str:
        """Start the server, or take over one that runs, keep it up, and return its URL.

        Raises:
            DatabaseNotStarted: it cannot start here.
        """
        self._stopped.clear()
        try:
            url = await asyncio.to_thread(self.launch)
        except asyncio.CancelledError:
            self._stopped.set()
            raise
        self._watch = asyncio.create_task(self._keep_up(), name="embedded-postgres")
        return url

    async def stop(self) -> None:
        """Stop the server. Harmless when it does not run."""
        if self._watch is not None:
            self._stopped.set()
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
            await asyncio.to_thread(self.halt)

    @property
    def runs(self) -> bool:
        """Whether the server runs already."""
        return self._process() is not None

    async def _keep_up(self) -> None:
        """Start the server again whenever it ends, after longer and longer pauses where it does not start."""
        pause, backoff = _CHECK_S, Backoff(2 * _CHECK_S, _LONGEST_PAUSE_S)
        while True:
            await asyncio.sleep(pause)
            try:
                if await asyncio.to_thread(self._answers):
                    self.trouble, pause = None, _CHECK_S
                    backoff.reset()
                    continue
                logger.warning("the embedded PostgreSQL ended; starting it again (log: %s)", self._log)
                await asyncio.to_thread(self.launch)
            except Exception as error:  # noqa: BLE001 - whatever it is, without a database nothing works
                self.trouble, pause = str(error) or type(error).__name__, backoff.next()
                logger.error("the embedded PostgreSQL did not start, trying again: %s", self.trouble)

    def launch(self) -> str:
        """Start the server, or take over one that runs, and return its URL. Nobody keeps it up.

        Raises:
            DatabaseNotStarted: it cannot start here.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._answers():
            taken_over = self._status() == "starting"  # by an earlier service, or before the wait was given up
            self._wait(self._log.stat().st_size if taken_over else self._anew())
        lines = self._pid_file()
        if len(lines) < 5:  # the folder of the socket is in its fifth
            raise DatabaseNotStarted(f"{self._directory / 'postmaster.pid'} is cut short; stop PostgreSQL there")
        # Of the environment's variables for other databases none is to count: PGSSLMODE, PGTARGETSESSIONATTRS.
        return f"postgresql://postgres@/postgres?host={quote(lines[4])}&sslmode=disable&target_session_attrs=any"

    def _anew(self) -> int:
        """Start a server, in a database that is made if need be. Returns where in its log it begins to write."""
        self.halt()  # one without its socket, which was in a temporary folder that somebody cleaned
        (self._directory / "postmaster.pid").unlink(missing_ok=True)  # whose process is gone, or is another now
        user = self._user()
        if not (self._directory / "PG_VERSION").exists():
            make_database(self._directory, user)
        return self._begin(user)

    def _owner(self) -> int | None:
        return self._directory.stat().st_uid if self._directory.is_dir() else None

    def _user(self) -> int | None:
        """Who the server runs as; None: as the service. Whose the directory is decides, once it holds a database."""
        if os.geteuid() != 0:
            return None
        owner = self._owner()
        if owner == 0:
            os.chown(self._directory, _ROOTS_USER, _ROOTS_USER)
        return owner or _ROOTS_USER

    def _begin(self, user: int | None) -> int:
        """Start the server's process. Returns where in its log it begins to write."""
        command = [
            *(str(programs() / "postgres"), "-D", str(self._directory)),
            *("-k", str(self._socket_folder(user)), "-h", ""),
        ]
        for name in ("messages", "monetary", "numeric", "time"):  # of a database that was made in another locale
            command += ["-c", f"lc_{name}=C"]
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            begin = log.tell()
            self._starting = subprocess.Popen(
                as_user(command, user),
                env=os.environ | LOCALE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the service, which then stops the server
                cwd="/",
            )
        return begin

    def _wait(self, begin: int) -> None:
        """Wait until the server is ready, for as long as it lives.

        After a crash it recovers, which takes as long as it takes: ended, it would begin anew the next time.
        """
        began, telling = time.monotonic(), _TELL_S
        while (status := self._status()) == "starting":
            waited = time.monotonic() - began
            if waited >= _LONGEST_START_S or self._stopped.is_set():
                raise DatabaseNotStarted(
                    f"PostgreSQL is still starting in {self._directory} after {waited:.0f} s, and goes on: "
                    f"{self._words(begin)} (log: {self._log}); start the service again later"
                )
            if waited >= telling:
                self.trouble = f"PostgreSQL has been starting for {waited:.0f} s: {self._words(begin)}"
                logger.warning("%s (log: %s)", self.trouble, self._log)
                telling += _TELL_S
            self._stopped.wait(_POLL_S)
        if status != "ready":
            words = self._words(begin)
            raise DatabaseNotStarted(f"PostgreSQL did not start in {self._directory}: {words} (log: {self._log})")
        self.trouble = None

    def _words(self, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            return last_words(log.read().decode(errors="replace"))

    def _socket_folder(self, user: int | None) -> Path:
        """Where the socket goes: the data directory, or where that is too long a path a folder of its own in /tmp."""
        if self._short_folder is None:
            return self._directory
        try:
            return own_folder(_TEMPORARY, self._short_folder, user)
        except OSError as error:
            raise DatabaseNotStarted(f"PostgreSQL's socket needs a folder in {_TEMPORARY}: {error}") from error

    def _status(self) -> str:
        """What the server does: starting, ready, stopping; empty: it does not run."""
        begun = self._starting is not None and self._starting.poll() is None
        lines = self._pid_file()
        if self._process() is None:
            return "starting" if begun and not lines else ""
        return lines[7].strip() if len(lines) > 7 else "starting"

    def _pid_file(self) -> list[str]:
        try:
            return (self._directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _process(self) -> psutil.Process | None:
        """The server's process. A number that another process has by now, or none, is not it."""
        if self._starting is not None:
            self._starting.poll()  # a child that ended is not to stay a zombie
        try:
            process = psutil.Process(int(self._pid_file()[0]))
            mine = str(self._directory) in process.cmdline()
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if mine and process.status() != psutil.STATUS_ZOMBIE else None

    def _answers(self) -> bool:
        """Whether the server is ready and has its socket."""
        lines = self._pid_file()
        return self._status() == "ready" and len(lines) > 4 and Path(lines[4], f".s.PGSQL.{lines[3]}").exists()

    def halt(self) -> None:
        """Stop the server, whoever started it. One that recovers from a crash is asked to, and no more."""
        process = self._process()
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, and at any rate
            if process is None or (signum != signal.SIGINT and self._status() == "starting"):
                break
            with contextlib.suppress(psutil.Error):
                process.send_signal(signum)
                process.wait(_STOP_S)  # and not for its pid file: its last line in the log comes after that is gone
            process = self._process()
        if self._short_folder is not None:
            folder = find_own_folder(_TEMPORARY, self._short_folder, self._owner())
            with contextlib.suppress(OSError):  # not empty
                if folder is not None:
                    folder.rmdir()


@contextlib.asynccontextmanager
async def borrowed(directory: Path) -> AsyncIterator[str]:
    """The URL of the embedded database: of the one that runs, or of one that runs for as long as the block.

    Raises:
        DatabaseNotStarted: it cannot start here.
    """
    server = EmbeddedPostgres(directory)
    ran = server.runs
    url = await asyncio.to_thread(server.launch)
    try:
        yield url
    finally:
        if not ran:
            await asyncio.to_thread(server.halt)
