"""`adadim serve`: one service process, from its socket to its last child."""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from rich.console import Console

from service.app import create_app
from service.cli.running import recorded, url_of
from service.cluster.claim import Claim
from service.context import Context
from service.database.address import Address, read_address
from service.database.check import DatabaseUnusable, check_database
from service.database.connection import CONNECT_ERRORS, Trouble, trouble
from service.database.engine import Database
from service.http_limits import BoundedHead
from service.secret import read_secret
from service.settings import Settings
from service.starting import CANNOT_START, ServeError, why_not
from service.telemetry import records, tracing

_MOST_DESCRIPTORS = 65_536
_GRACE_S = 10
"""Time that requests in progress get to end. Streams end at once: their clients resume elsewhere."""

logger = logging.getLogger(__name__)

_STALLED_MS = 30_000
"""A connection ends if its client does not read sent data for this long."""
_DATABASE_WAIT_S = 60.0
"""Containers start in any order, and a database that recovers, or whose name is not known yet, takes a while."""
_DATABASE_PAUSE_S = 0.5


def serve(settings: Settings) -> None:
    """Run the service until SIGINT or SIGTERM. Raises ServeError."""
    try:
        _serve(settings)
    except CANNOT_START as error:
        raise ServeError(why_not(error)) from None


def _serve(settings: Settings) -> None:
    records.configure(as_json=(settings.log or ("text" if sys.stderr.isatty() else "json")) == "json")
    if settings.database_url is not None:
        asyncio.run(_check_database(settings.database_url, shared=settings.ray_address is not None))
    _raise_descriptors()
    os.umask(0o077)  # logs, results and sockets are this user's, as the token is
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_service(settings.state_dir), _listen(settings) as listener:
        port = listener.getsockname()[1]
        url = f"http://{_reachable(settings.host)}:{port}"
        tracer = tracing.configure()
        app = create_app(settings, settings.public_url or url)
        config = uvicorn.Config(
            app,
            log_config=None,  # its records go where all go
            http=BoundedHead,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=30,
            server_header=False,
        )
        # uvicorn stops in order and then raises the signal once more, for whoever was there before it: nobody.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)
        # Why it cannot start is told below, in one line; uvicorn would print the whole trace.
        logging.getLogger("uvicorn.error").addFilter(lambda _: getattr(app.state, "cannot_start", None) is None)
        try:
            with recorded(settings, url):
                _Server(config, app, url, settings).run(sockets=[listener])
        except SystemExit:
            if (reason := getattr(app.state, "cannot_start", None)) is None:
                raise
            raise ServeError(reason) from None
        finally:
            tracing.stop(tracer)


class _Server(uvicorn.Server):
    """uvicorn that says where the dashboard is once it answers, and drains before it stops."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, url: str, settings: Settings) -> None:
        super().__init__(config)
        self._app, self._url, self._drain_s = app, url, settings.drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if not self.started:
            return
        bound = ", ".join(_shown(listener.getsockname()) for listener in sockets or [])
        path: Path | None = self._app.state.admin_token
        place = f"in {path}" if path is not None else "not here"
        logger.info("listening on %s, admin token %s", bound, place)
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        if console.is_terminal:
            # The link holds the token. It is for the person at the terminal; a log would keep it for others.
            link = f"{self._url}/#token={read_secret(path)}" if path is not None else self._url
            console.print(f"\n  Dashboard  [bold]{link}[/]")
            console.print(f"  API        {self._url}/docs")
            console.print(f"  Token      {place}\n")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop being ready and end streams; after the drain, accept no more, let requests end, and stop.

        Once is enough: uvicorn would take a second Ctrl-C as leave to skip the shutdown, and leave Ray behind.
        """
        drain = self._drain_s if sig == signal.SIGTERM else 0.0  # Ctrl-C: a person waits, no load balancer looks
        if self.should_exit or (self._stopping and drain):
            return
        if not self._stopping:
            logger.info("stopping; this takes a few seconds, and what runs is taken up again at the next start")
        self._stopping = True
        context: Context | None = getattr(self._app.state, "context", None)
        if context is not None:
            context.closing = True
            context.listener.wake_all()
        if drain and self._loop is not None:
            # Load balancers see the 503 of /readyz before connections are refused.
            end = super().handle_exit
            self._loop.call_soon_threadsafe(lambda loop: loop.call_later(drain, end, sig, None), self._loop)
        else:
            super().handle_exit(sig, frame)


def migrate(settings: Settings) -> None:
    """Bring the database that DATABASE_URL names to this version's schema, as `serve` does. Raises ServeError."""
    if settings.database_url is None:
        raise ServeError("DATABASE_URL is not set; the embedded database is migrated by `adadim serve`")
    records.configure(as_json=(settings.log or ("text" if sys.stderr.isatty() else "json")) == "json")
    try:
        asyncio.run(_migrate(settings.database_url))
    except CANNOT_START as error:
        raise ServeError(why_not(error)) from None


async def _migrate(url: str) -> None:
    await _wait_for(read_address(url), claim=None)
    database = Database(url)
    try:
        await database.migrate()
    finally:
        await database.close()


def _raise_descriptors() -> None:
    """Allow as many open files as the system lets this process have: shells give 1,024, fewer than may connect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _check_database(url: str, *, shared: bool) -> None:
    """One line before anything is started or written. A database that is not there yet is waited for."""
    address, claim = read_address(url), Claim(url, shared=shared)
    if address.without_effect:
        logger.warning("DATABASE_URL: without effect on this client: %s", ", ".join(address.without_effect))
    try:
        await _wait_for(address, claim)
    finally:
        await claim.release()


async def _wait_for(address: Address, claim: Claim | None) -> None:
    """Wait until the database can be used, and the claim, if any, is taken. Raises ServeError."""
    deadline, told = time.monotonic() + _DATABASE_WAIT_S, False
    while (found := await _trouble(address, claim)) is not None:
        if not found.may_pass or time.monotonic() >= deadline:
            raise ServeError(str(found))
        if not told:
            logger.info("waiting up to %.0f s: %s", _DATABASE_WAIT_S, found)
            told = True
        await asyncio.sleep(_DATABASE_PAUSE_S)


async def _trouble(address: Address, claim: Claim | None) -> Trouble | None:
    """Why the database cannot be used now; None: it can be."""
    try:
        await check_database(address)
        if claim is not None:
            await claim.take()
    except DatabaseUnusable as error:
        return error.trouble
    except CONNECT_ERRORS as error:
        return trouble(error, address)
    return None


@contextlib.contextmanager
def only_service(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two services would fight over its database and its cluster."""
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServeError(
                f"another service uses {state_dir}; stop it, or set ADADIM_STATE_DIR to a directory of its own"
            ) from None
        except OSError as error:  # a home on NFS may have no locks
            logger.warning(
                "%s cannot be locked (%s): see to it that no other service uses it", state_dir, error.strerror
            )
        yield


@contextlib.contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it: who reads nothing is closed by the kernel
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
        try:
            listener.bind((settings.host, settings.port or _port_before(settings, family)))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); set ADADIM_PORT to a free port"
            ) from None
        yield listener


def _shown(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reachable(host: str) -> str:
    """The host part of a URL for an address to listen on."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _port_before(settings: Settings, family: socket.AddressFamily) -> int:
    """Where any port will do: the one of a service that was killed here, whose workers still report to it."""
    with contextlib.suppress(OSError, ValueError), socket.socket(family) as trial:
        port = urlsplit(url_of(settings.state_dir) or "").port or 0
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((settings.host, port))
        return port
    return 0
