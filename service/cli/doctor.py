"""`adadim doctor`: looks at everything the service stands on, with the settings `adadim serve` would use.

Each check answers in one line, with what to do when it fails. It changes nothing but a file it removes again, and
starts nothing but the embedded database when that does not run, for as long as it looks.
"""

import asyncio
import contextlib
import email.utils
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from adadim_core import network
from adadim_core.storage.address import in_object_store, shown
from adadim_core.storage.object_store import ObjectStore
from service.cli.running import stands_on, stood_on, url_of
from service.cluster.jobs import ClusterUnavailable, RayJobs
from service.cluster.local import open_to_others, running_head, trouble_of_head
from service.database.address import read_address
from service.database.check import DatabaseUnusable, Facts, check_database
from service.database.connection import CONNECT_ERRORS, connect, first_line
from service.database.embedded import borrowed
from service.database.programs import DatabaseNotStarted
from service.settings import Settings

_MAX_SKEW_S = 5.0
"""Clocks further apart than this make times in the dashboard and token expiry misleading."""
_MIN_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    text: str
    remedy: str = ""
    """What to do; empty if all is well."""


async def examine(settings: Settings) -> list[Finding]:
    """Run every check, one after the other; none stops the ones after it."""
    findings = [_state_dir(settings), *_settings(settings)]
    findings += await _database(settings)
    findings += await _cluster(settings)
    findings.append(await _storage(settings))
    findings.append(await _service(settings))
    return findings


def _state_dir(settings: Settings) -> Finding:
    problem = _unwritable(settings.state_dir)
    remedy = "make it writable, or set ADADIM_STATE_DIR"
    return Finding("state", problem is None, problem or f"{settings.state_dir} is writable", remedy)


def _settings(settings: Settings) -> list[Finding]:
    """Whether what is looked at here is what the service that runs here stands on."""
    theirs, ours = stood_on(settings.state_dir), stands_on(settings)
    if theirs is None or not (others := [name for name in ours if theirs.get(name) != ours[name]]):
        return []
    has = ", ".join(f"{name}={theirs[name]}" if theirs.get(name) else f"no {name}" for name in others)
    text = f"the service that runs here has {has}; what is looked at below is something else"
    return [Finding("settings", False, text, "run `adadim doctor` in the environment of the service")]


async def _database(settings: Settings) -> list[Finding]:
    """The database, its schema and its clock."""
    if settings.database_url is None and not (settings.state_dir / "postgres").exists():
        return [Finding("database", True, "none yet; `adadim serve` makes one")]
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = settings.database_url
            if url is None:
                url = await stack.enter_async_context(borrowed(settings.state_dir / "postgres"))
            address = read_address(url)
            facts = await check_database(address)
            connection = await connect(address)
            stack.callback(connection.terminate)
            before = time.time()
            theirs = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            ours = (before + time.time()) / 2
        except DatabaseUnusable as error:
            return [Finding("database", False, error.trouble.text, error.trouble.remedy)]
        except (DatabaseNotStarted, *CONNECT_ERRORS) as error:
            remedy = "check DATABASE_URL" if settings.database_url else f"see {settings.state_dir / 'postgres' / 'log'}"
            return [Finding("database", False, f"no answer ({first_line(error)})", remedy)]
    idle = f"; without effect: {', '.join(address.without_effect)}" if address.without_effect else ""
    return [
        Finding("database", True, f"PostgreSQL {facts.version} answers at {address.place}{idle}"),
        _migrations(facts),
        _skew("database", float(theirs) - ours),
    ]


def _migrations(facts: Facts) -> Finding:
    if facts.revision is None:
        return Finding("migrations", True, "the database is empty; `adadim serve` makes its tables")
    if facts.revision != facts.newest:
        return Finding("migrations", False, f"the schema is at {facts.revision}, this version wants {facts.newest}",
                       "start `adadim serve`: it migrates; make a backup before")  # fmt: skip
    return Finding("migrations", True, f"the schema is up to date ({facts.newest})")


async def _cluster(settings: Settings) -> list[Finding]:
    if settings.ray_address is not None:
        address, token = settings.ray_address, settings.ray_auth_token
        remedy = "check RAY_ADDRESS (the dashboard's address, port 8265) and RAY_AUTH_TOKEN"
    else:
        head = running_head(settings.state_dir)
        if head is None:
            return [_local_ray(trouble_of_head(settings.state_dir))]
        address, token, remedy = *head, "stop `adadim serve` and start it again"
    jobs = RayJobs()
    try:
        await jobs.connect(address, token)
        async with asyncio.timeout(10):
            version = await jobs.version()
    except (ClusterUnavailable, TimeoutError) as error:
        return [Finding("cluster", False, first_line(error) or f"no answer from Ray at {address}", remedy)]
    finally:
        await jobs.close()
    findings = [Finding("cluster", True, f"Ray {version} answers at {address}")]
    if settings.ray_address is None and (wide := await asyncio.to_thread(open_to_others, settings.state_dir)):
        text = f"it listens beyond loopback, guarded by its token: {', '.join(wide)}"
        remedy = "an earlier version started it; stop `adadim serve` and start it again"
        findings.append(Finding("cluster", False, text, remedy))
    with contextlib.suppress(httpx.HTTPError, ValueError, TypeError):
        async with httpx.AsyncClient(timeout=5, **network.options(address)) as http:
            date = (await http.get(address)).headers["date"]
        # A second's resolution, and up to a second old.
        findings.append(_skew("cluster", email.utils.parsedate_to_datetime(date).timestamp() - time.time()))
    return findings


def _local_ray(trouble: str | None) -> Finding:
    if trouble is not None:
        return Finding("cluster", False, trouble, 'see docs/operations.md, "When it does not start"')
    if Path(sys.executable).with_name("ray").exists():  # whose `serve` would start it
        return Finding("cluster", True, "none runs; `adadim serve` starts a local one")
    return Finding("cluster", False, "RAY_ADDRESS is not set and Ray is not installed",
                   "set RAY_ADDRESS, or install adadim[workers] for a local cluster")  # fmt: skip


async def _storage(settings: Settings) -> Finding:
    if in_object_store(settings.storage_root):
        place = shown(settings.storage_root)
        try:
            await asyncio.to_thread(lambda: ObjectStore(settings.storage_root).check())
        except OSError as error:
            remedy = "check ADADIM_STORAGE and the keys in the environment, here and on every node"
            return Finding("storage", False, f"{place} cannot be used ({first_line(error)})", remedy)
        return Finding("storage", True, f"{place} answers")
    folder = Path(settings.storage_root)
    problem = _unwritable(folder)
    if problem is not None:
        if settings.ray_address is not None and not await asyncio.to_thread(folder.exists):
            return Finding("storage", False, f"{folder} cannot be seen from here",
                           "mount it here too, or logs of trials cannot be read nor artefacts removed")  # fmt: skip
        return Finding("storage", False, problem, "make it writable, or set ADADIM_STORAGE")
    free = shutil.disk_usage(_existing(folder)).free
    if free < _MIN_FREE_BYTES:
        return Finding("storage", False, f"{folder} has {free / 2**20:.0f} MiB free", "free space, or move it")
    return Finding("storage", True, f"{folder} is writable, {free / 2**30:.0f} GiB free")


async def _service(settings: Settings) -> Finding:
    url = settings.public_url or url_of(settings.state_dir)
    if url is None:
        return Finding("service", True, "not running here; start it with `adadim serve`")
    try:
        async with httpx.AsyncClient(timeout=5, **network.options(url)) as http:
            status = (await http.get(f"{url}/readyz")).status_code
    except (httpx.HTTPError, httpx.InvalidURL, network.ProxyUnusable) as error:
        return Finding("service", False, f"no answer at {network.route(url)} ({network.reason(error)})",
                       "start `adadim serve`; if it runs, workers on the cluster cannot reach this either")  # fmt: skip
    return Finding("service", status == 200, f"{url}/readyz answers {status}", "see its log")


def _skew(where: str, seconds: float) -> Finding:
    ok = abs(seconds) <= _MAX_SKEW_S
    text = "it agrees with this machine's" if ok else f"it is {seconds:+.0f} s from this machine's"
    return Finding(f"{where} clock", ok, text, "set both by NTP")


def _unwritable(folder: Path) -> str | None:
    """Why a folder cannot be written, or None if it can. One that is not there yet counts as what it would be in."""
    folder = _existing(folder)
    probe = folder / f".adadim-doctor-{uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
