"""One embedded PostgreSQL for the session, a fresh database for every test, and services on real ports."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from service_harness import RAY_TOKEN, RayStandIn, Running, add_token, client, make_settings, parts, serving
from sqlalchemy import text

from service import reception
from service.app import attach, create_app
from service.context import Context
from service.database import embedded, initdb
from service.database.embedded import EmbeddedPostgres
from service.database.engine import Database
from service.dispatch import dispatcher
from service.dispatch import service as dispatch
from service.experiments import artefacts
from service.experiments import repository as experiments
from service.rate import RateLimiter
from service.spec_checks import SHARE

_numbers = itertools.count()


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """URL of the administrative database of a real server; a database named `template` has the schema."""
    with tempfile.TemporaryDirectory(prefix="adadim-pg-", ignore_cleanup_errors=True) as directory:
        server = EmbeddedPostgres(Path(directory) / "data")
        url = await server.start()
        try:
            admin = await asyncpg.connect(url)
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                await admin.execute(f"ALTER SYSTEM SET {setting} = off")
            await admin.execute("SELECT pg_reload_conf()")
            await admin.execute("CREATE DATABASE template")
            await admin.close()
            database = Database(_of(url, "template"))
            await database.migrate()
            await database.close()
            yield url
        finally:
            await server.stop()


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an embedded PostgreSQL, as initdb made it."""
    directory = tmp_path_factory.mktemp("made") / "postgres"
    directory.mkdir(mode=0o700)
    initdb.make_database(directory, EmbeddedPostgres(directory)._user())
    return directory


@pytest.fixture
def quick_initdb(made_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies what initdb made once: it brings 40 MB to disk each time, and waits for the disk."""

    def copy(directory: Path, user: int | None) -> None:
        shutil.copytree(made_database, directory, dirs_exist_ok=True)
        for place in (directory, *directory.rglob("*")) if user is not None else ():
            os.chown(place, user, user)

    monkeypatch.setattr(embedded, "make_database", copy)


@pytest.fixture
async def empty_database_url(postgres: str) -> AsyncIterator[str]:
    """A database without any table."""
    async with _database(postgres, "template1") as url:
        yield url


@pytest.fixture
async def database_url(postgres: str) -> AsyncIterator[str]:
    """A database with the newest schema."""
    async with _database(postgres, "template") as url:
        yield url


@contextlib.asynccontextmanager
async def _database(postgres: str, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres)
    # Copied as files it takes half of the processor time that it takes through the log of a server without fsync.
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield _of(postgres, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


def _of(url: str, name: str) -> str:
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def quick_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often, so that tests wait for what happens and not for intervals."""
    monkeypatch.setattr(dispatcher, "_POLL_S", 0.02)
    monkeypatch.setattr(dispatcher, "_RECONCILE_S", 0.02)
    monkeypatch.setattr(dispatcher, "_CLOSE_AFTER", timedelta(0))
    monkeypatch.setattr(dispatch, "CHECK_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(dispatch, "_STOP_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(dispatch, "_MAX_BACKOFF", timedelta(0))
    # A test sets back since when workers are heard: a round of the dispatcher that takes long must not undo it.
    monkeypatch.setattr(reception, "_LONGEST_GAP", timedelta(seconds=60))


@pytest.fixture
def ray() -> Iterator[RayStandIn]:
    stand_in = RayStandIn()
    yield stand_in
    stand_in.gate.set()
    stand_in.go_away()


@pytest.fixture
async def context(database_url: str, tmp_path: Path, ray: RayStandIn) -> AsyncIterator[Context]:
    """The parts of a service, connected to the stand-in for Ray, with nothing running by itself but the listener."""
    async with parts(database_url, tmp_path, ray) as context:
        yield context


@pytest.fixture(scope="session")
async def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, FastAPI]]:
    folder = tmp_path_factory.mktemp("api")
    async with _database(postgres, "template") as database_url, parts(database_url, folder) as context:
        app = create_app(make_settings(folder), "http://127.0.0.1:1")
        attach(app, context)
        async with serving(app, lifespan=False) as url:
            yield url, app


@pytest.fixture
async def service(api: tuple[str, FastAPI]) -> AsyncIterator[Running]:
    """The API on a real port with an empty database, without a dispatcher: what is queued stays queued."""
    url, app = api
    context: Context = app.state.context
    async with context.database.transaction() as session:
        await session.execute(text("TRUNCATE experiments, metrics, tokens RESTART IDENTITY CASCADE"))
    context.spec_checks._spent = RateLimiter(SHARE)  # what other tests had checked counts for nothing here
    token = await add_token(context.database, "submitter", "ada")
    async with client(url, token) as http:
        yield Running(url, app, context, http, token)


@pytest.fixture
async def run_folder(service: Running) -> AsyncIterator[Callable[[int], Path]]:
    """Where the files of an experiment's run lie. They go with the test: the next one's experiment has its number."""
    async with service.context.database.transaction() as session:
        key = await experiments.installation_key(session)
    folders: list[Path] = []

    def folder(experiment_id: int) -> Path:
        folders.append(Path(artefacts.folder(service.context.settings, artefacts.name(key, experiment_id))))
        return folders[-1]

    yield folder
    for used in folders:
        shutil.rmtree(used, ignore_errors=True)


@pytest.fixture
async def start_service(tmp_path: Path, database_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Starts whole services: migrations, admin token, listener, dispatcher. They end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(ray: RayStandIn, **values: Any) -> Running:
            settings = make_settings(
                tmp_path, database_url=database_url, ray_address=ray.address, ray_auth_token=RAY_TOKEN, **values
            )
            app = create_app(settings, "http://127.0.0.1:1")
            url = await stack.enter_async_context(serving(app, lifespan=True))
            token = (settings.state_dir / "token").read_text().strip()
            http = await stack.enter_async_context(client(url, token))
            return Running(url, app, app.state.context, http, token)

        yield start
