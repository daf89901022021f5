"""The local Ray head: started, supervised and stopped by the service when no RAY_ADDRESS is given.

It outlives a service that is killed, and the next one takes it over, so that training goes on; a service that
stops stops it with everything it started.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil

from adadim_core.cpus import available_cpus
from adadim_core.interpreter import plain_programs
from adadim_core.retrying import Backoff
from adadim_core.storage.atomic import write_text
from adadim_core.storage.own_folder import SUFFIX_LENGTH, find_own_folder, own_folder
from service.cluster.jobs import ClusterUnavailable, RayJobs
from service.cluster.ports import free_ports
from service.cluster.process import identity
from service.secret import new_token, read_secret, write_secret

logger = logging.getLogger(__name__)

_MARKER = "ADADIM_LOCAL_RAY"
"""Environment variable that every process of the head inherits: how its processes are found again."""

_SECRETS = ("DATABASE_URL", "PGPASSWORD", "ADADIM_TOKEN", "ADADIM_ADMIN_TOKEN_FILE", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
"""What workers must not see: the database's password, users' tokens and where they are."""
_START_TIMEOUT_S = 120.0
_CHECK_INTERVAL_S = 2.0
_STOP_GRACE_S = 5.0
_LONGEST_PAUSE_S = 60.0
_LONGEST_TEMPORARY = 22 - SUFFIX_LENGTH
"""Of the 107 characters of a socket's path Ray takes 62, this service 22 and what makes a name unguessable."""
_LONGEST_WORDS = 300
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")


@dataclass(frozen=True)
class _Head:
    """What a later service needs to take the head over."""

    pid: int
    identity: str
    """Of its process: the number may be another's by the next look."""
    address: str


class LocalRay:
    """A Ray head on this machine, reachable over loopback only."""

    def __init__(self, state_dir: Path, jobs: RayJobs, num_cpus: int | None) -> None:
        self._record = state_dir / "ray.json"
        self._token_path = state_dir / "ray-token"
        self._log_path = state_dir / "ray.log"
        self._marker = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:16]
        self._trouble_path = state_dir / "ray-trouble"
        # Unix socket paths are limited to about 100 characters, so not under the state directory. Ray opens its
        # folders to everyone, and its logs hold the environment of jobs: the folder above them is closed.
        self._temporary, self._private_name = _temporary_folder(), f"adadim-ray-{self._marker[:8]}"
        self._jobs = jobs
        self._num_cpus = num_cpus or available_cpus()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start or take over the head and keep it up, in a task of its own."""
        self._jobs.token = self._token()  # jobs of the head before may speak up before this one answers
        self._task = asyncio.create_task(self._supervise(), name="local-ray")

    async def stop(self) -> None:
        """End the head and every process it started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._jobs.close()
        await asyncio.to_thread(self._end_processes)
        if (private := self._private_dir()) is not None:
            await asyncio.to_thread(shutil.rmtree, private, ignore_errors=True)

    def _private_dir(self) -> Path | None:
        """The folder of the head's files; None: there is none."""
        return find_own_folder(self._temporary, self._private_name)

    async def _supervise(self) -> None:
        backoff = Backoff(_CHECK_INTERVAL_S, _LONGEST_PAUSE_S)
        while True:
            why = None
            try:
                head = await self._take_over() or await self._launch()
                self._tell(None)
                backoff.reset()
                # Neither a process that is not our child nor a folder sends an event.
                while (why := self._ended(head)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(_CHECK_INTERVAL_S)
                logger.warning("%s; starting another", why)
                self._tell(f"{why}; another is starting")
            except Exception as error:  # noqa: BLE001 - whatever it is, without a head nothing ever runs
                self._tell(f"the local Ray head does not start: {error} (log: {self._log_path})")
                pause = backoff.next()
                logger.error("the local Ray head did not start, trying again in %.0f s: %s", pause, error)
                await asyncio.sleep(pause)
            await self._jobs.close()
            await asyncio.to_thread(self._end_processes)
            if why is not None:
                self._jobs.cluster_ended(why)  # now: until then its workers may have reported

    def _ended(self, head: _Head) -> str | None:
        """Why a head serves no more; None: it serves."""
        if not _is_running(head):
            return "the local Ray head ended"
        # Jobs that start write there, and wait for ever where they cannot.
        private = self._private_dir()
        if private is None or not (private / "r").is_dir():
            return f"the files of the local Ray head in {self._temporary / self._private_name} were removed"
        return None

    def _tell(self, trouble: str | None) -> None:
        """Say why nothing runs, or that all is well: to who waits in the queue, and to `adadim doctor`."""
        self._jobs.trouble = trouble
        with contextlib.suppress(OSError):
            if trouble is None:
                self._trouble_path.unlink(missing_ok=True)
            else:
                write_text(self._trouble_path, trouble)

    async def _take_over(self) -> _Head | None:
        """The head an earlier service left behind, if it is alive and answers."""
        head = _recorded(self._record.parent)
        why = None if head is None else self._ended(head)
        if head is None or why is not None:
            await asyncio.to_thread(self._end_processes)
            if why is not None:
                self._jobs.cluster_ended(why)
            return None
        probe = RayJobs()
        await probe.connect(head.address, self._token())
        try:
            version = await probe.version()
        except ClusterUnavailable:
            await asyncio.to_thread(self._end_processes)
            return None
        finally:
            await probe.close()
        await self._jobs.connect(head.address, self._token())
        logger.info("took over the local Ray %s at %s", version, head.address)
        return head

    async def _launch(self) -> _Head:
        dashboard, *others = free_ports(4)
        token = self._token()
        private = own_folder(self._temporary, self._private_name)
        programs = plain_programs(private)
        command = [
            str(programs / "python"), str(programs / "ray"), "start", "--head", "--block",
            "--node-ip-address=127.0.0.1", f"--dashboard-port={dashboard}", f"--port={others[0]}",
            f"--dashboard-agent-listen-port={others[1]}", f"--ray-client-server-port={others[2]}",
            "--min-worker-port=0", "--max-worker-port=0", f"--num-cpus={self._num_cpus}",
            f"--temp-dir={private / 'r'}", "--disable-usage-stats",
        ]  # fmt: skip
        environment = self._environment(programs)
        self._log_path.touch(mode=0o600)
        with self._log_path.open("ab") as log:
            begin = log.tell()
            process = await asyncio.to_thread(
                # A session of its own: Ctrl-C in the terminal must not reach it before the service says so.
                lambda: subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
        head = _Head(process.pid, identity(process.pid) or "", f"http://127.0.0.1:{dashboard}")
        write_text(self._record, json.dumps(asdict(head)))
        # Asked by a client of its own: the service's stays disconnected, and queued work queued, until Ray answers.
        probe = RayJobs()
        await probe.connect(head.address, token)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                version = await self._first_answer(probe, process, begin)
        except TimeoutError:
            raise ClusterUnavailable(f"Ray does not answer after {_START_TIMEOUT_S:.0f} s") from None
        finally:
            await probe.close()
        await self._jobs.connect(head.address, token)
        logger.info("started a local Ray %s with %d CPUs at %s", version, self._num_cpus, head.address)
        return head

    def _environment(self, programs: Path) -> dict[str, str]:
        """What the head and its jobs find in their environment."""
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        if not {"USER", "LOGNAME"} & environment.keys():
            # A user without a name, as containers have them, is none to Python's getpass either.
            environment["USER"] = f"uid{os.getuid()}"
        if self._temporary != Path(tempfile.gettempdir()):  # which is too long for Python's own sockets, too
            environment["TMPDIR"] = str(self._temporary)
        return environment | {
            _MARKER: self._marker,
            # Asked for on any system: with it Ray replaces 127.0.0.1 by an address of the machine, and its servers
            # listen on all addresses.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token_path.resolve()),
            # Trials save their checkpoints as they go, so there is nothing to wait for when the head is to end.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            # `python` in a job's entrypoint is this interpreter.
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    async def _first_answer(self, probe: RayJobs, process: subprocess.Popen[bytes], begin: int) -> str:
        while process.poll() is None:
            with contextlib.suppress(ClusterUnavailable):
                return await probe.version()
            await asyncio.sleep(0.2)
        raise ClusterUnavailable(f"`ray start` ended with exit code {process.returncode}: {self._last_words(begin)}")

    def _last_words(self, begin: int) -> str:
        """The line of its log that says what went wrong."""
        with self._log_path.open("rb") as log:
            log.seek(begin)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if _ERROR.match(line)]
        return (told or lines or ["it said nothing"])[-1][:_LONGEST_WORDS]

    def _token(self) -> str:
        if not read_secret(self._token_path):
            write_secret(self._token_path, new_token())
        return read_secret(self._token_path)

    def _end_processes(self) -> None:
        """End everything that carries the marker: politely, then with SIGKILL."""
        processes = self._processes()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=_STOP_GRACE_S)
        # Looked up again: a process may have started others while it ended.
        for process in {*alive, *self._processes()}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=_STOP_GRACE_S)
        self._record.unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        """Everything the head started: by the marker, and by the head's session.

        Ray's own processes overwrite their environment with their title but stay in the session; drivers of jobs
        have sessions of their own but keep the environment.
        """
        head = _recorded(self._record.parent)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                in_session = head is not None and os.getsid(process.pid) == head.pid
                if in_session or process.environ().get(_MARKER) == self._marker:
                    found.append(process)
        return found


def running_head(state_dir: Path) -> tuple[str, str] | None:
    """Address and token of the local head of a state directory, if one runs."""
    head = _recorded(state_dir)
    return (head.address, read_secret(state_dir / "ray-token")) if head is not None and _is_running(head) else None


def open_to_others(state_dir: Path) -> list[str]:
    """Where the local head of a state directory listens beyond loopback; one of an earlier version may."""
    head = _recorded(state_dir)
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if head is not None and os.getsid(process.pid) == head.pid:
                listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                found |= {f"{c.laddr.ip}:{c.laddr.port} ({process.name()})" for c in listening if not _loopback(c)}
    return sorted(found)


def _loopback(connection: Any) -> bool:
    address = ip_address(connection.laddr.ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _recorded(state_dir: Path) -> _Head | None:
    try:
        return _Head(**json.loads((state_dir / "ray.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def trouble_of_head(state_dir: Path) -> str | None:
    """Why the service of a state directory has no local head, as it last said; None: it said nothing."""
    try:
        return (state_dir / "ray-trouble").read_text() or None
    except OSError:
        return None


def _is_running(head: _Head) -> bool:
    return identity(head.pid) == head.identity


def _temporary_folder() -> Path:
    """Where Ray's files go: where TMPDIR says, unless its sockets would have too long a path there."""
    folder = Path(tempfile.gettempdir())
    return folder if len(os.fsencode(folder)) <= _LONGEST_TEMPORARY else Path("/tmp")  # noqa: S108 - its owner is checked
