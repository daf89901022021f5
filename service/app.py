"""Assembles the service: parts start in order, and stop in the reverse order."""

import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI

from service.actions import endpoints as actions
from service.answers import endpoints as answers
from service.attempts import endpoints as attempts
from service.attempts.dependencies import Reporting
from service.attempts.direct import DirectReports
from service.attempts.inbox import Inbox
from service.audit import endpoints as audit
from service.audit.retention import Retention
from service.auth import endpoints as auth
from service.auth import identity_endpoints as identity
from service.auth import token_endpoints as tokens
from service.auth.admin_token import ensure_admin_token
from service.auth.open_requests import EndWhenRevoked, OpenRequests
from service.auth.recognised import Recognised
from service.browsers import AllowedHosts, SecurityHeaders
from service.cluster.claim import Claim
from service.cluster.jobs import RayJobs
from service.cluster.local import LocalRay
from service.cluster.outage import Outage
from service.context import Context
from service.curves import endpoints as curves
from service.dashboard import endpoints as dashboard
from service.database.check import check_database
from service.database.embedded import EmbeddedPostgres
from service.database.engine import Database
from service.database.notify import Listener
from service.dispatch.closing import interrupt_in_flight, keep_logs
from service.dispatch.dispatcher import Dispatcher
from service.dispatch.repository import release_all
from service.experiments import endpoints as experiments
from service.exports import endpoints as exports
from service.health import endpoints as health
from service.health.storage import StorageSpace
from service.http_limits import BodyLimits
from service.imports import endpoints as imports
from service.logs import endpoints as logs
from service.metrics import endpoints as metrics
from service.metrics.merger import Merger
from service.problems import install as install_problems
from service.problems import on_bug
from service.settings import Settings
from service.starting import CANNOT_START, why_not
from service.streams import endpoints as streams
from service.streams.feed import Feeds
from service.telemetry.http_metrics import HttpMetrics
from service.telemetry.requests import RequestRecords
from service.trials import endpoints as trials
from service.words import endpoints as words

logger = logging.getLogger(__name__)


def create_app(settings: Settings, url: str) -> FastAPI:
    """The ASGI application. `url` is where workers reach it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await _start(app, settings, url, stack)
            except CANNOT_START as error:
                app.state.cannot_start = why_not(error)  # for who runs the application: uvicorn keeps the exception
                raise
            yield

    app = FastAPI(
        title="AdaDim Service",
        description="Sweeps AdaDim loss weightings on Ray and streams H(R) and I(R;Z) back.",
        lifespan=lifespan,
        openapi_url=None,  # dashboard/endpoints.py serves it, written once, ...
        docs_url=None,  # ... and this without a third party's scripts
        redoc_url=None,
    )
    app.add_middleware(EndWhenRevoked)
    app.add_middleware(BodyLimits)
    install_problems(app)
    app.add_middleware(DirectReports)
    app.add_middleware(AllowedHosts, settings=settings, url=url)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestRecords, on_bug=on_bug)
    app.add_middleware(HttpMetrics)  # last, so outermost: it counts the answers to bugs too
    for part in (  # workers' reports first: routes are tried in this order
        attempts, imports, experiments, actions, trials, answers, metrics, curves, exports, streams, logs, words, auth,
        identity, tokens, audit, health, dashboard,
    ):  # fmt: skip
        app.include_router(part.router)
    dashboard.install(app)
    return app


async def _start(app: FastAPI, settings: Settings, url: str, stack: contextlib.AsyncExitStack) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database_url = settings.database_url
    if database_url is None:
        embedded = EmbeddedPostgres(settings.state_dir / "postgres")
        stack.push_async_callback(embedded.stop)
        database_url = await embedded.start()
    database = Database(database_url)
    stack.push_async_callback(database.close)
    await check_database(database.address)
    claim = Claim(database_url, shared=settings.ray_address is not None)
    stack.push_async_callback(claim.release)
    await claim.take()
    await database.migrate()
    app.state.admin_token = await ensure_admin_token(database, settings.state_dir / "token", settings.admin_token_file)

    listener = Listener(database_url)
    listener.start()
    stack.push_async_callback(listener.stop)

    context = Context(settings, database, listener, RayJobs(Outage()))
    stack.push_async_callback(context.jobs.close)
    attach(app, context)
    stack.push_async_callback(app.state.reporting.inbox.close)
    merger = Merger(database, settings.keep_points_days)
    merger.start()
    stack.push_async_callback(merger.stop)
    retention = Retention(database, settings.keep_audit_days)
    retention.start()
    stack.push_async_callback(retention.stop)
    if settings.ray_address is not None:
        await context.jobs.connect(settings.ray_address, settings.ray_auth_token)
    else:
        local = LocalRay(settings.state_dir, context.jobs, settings.ray_num_cpus)
        # In this order on the way out: the cluster ends first, then what ran on it is queued again.
        stack.push_async_callback(interrupt_in_flight, context)
        stack.push_async_callback(local.stop)
        stack.push_async_callback(keep_logs, context)
        local.start()
        # Nobody else uses this database: what is leased was leased by a service that was killed.
        async with database.transaction() as session:
            await release_all(session)

    dispatcher = Dispatcher(context, url)
    dispatcher.start()
    stack.push_async_callback(dispatcher.stop)


def attach(app: FastAPI, context: Context) -> None:
    """Attach what routes ask the application for: the context, and the run-time state of single nouns."""
    app.state.context = context
    app.state.recognised = Recognised()
    app.state.open_requests = OpenRequests(context.database, app.state.recognised)
    app.state.reporting = Reporting(Inbox(context.database))
    app.state.feeds = Feeds(context.database, context.listener)
    app.state.storage_space = StorageSpace(context.settings.storage_root)
