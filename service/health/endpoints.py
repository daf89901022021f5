"""HTTP: liveness, readiness, and metrics in Prometheus' text format.

Gauges of H(R), I(R;Z), alpha and loss exist for running trials only, at most MAX_TRIALS of them.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from adadim_core.spec.metrics import METRICS
from adadim_core.spec.report import decode_float
from service.auth.dependencies import Viewer
from service.cluster.jobs import ClusterUnavailable
from service.context import Context, CurrentContext
from service.database.engine import DATABASE_ERRORS
from service.health import repository
from service.problems import PROBLEM_RESPONSES
from service.schema import Schema
from service.telemetry.counters import REGISTRY

router = APIRouter(tags=["health"])

MAX_TRIALS = 500
_CLUSTER_TIMEOUT_S = 2.0
TRIAL_METRICS = tuple(name for name, metric in METRICS.items() if metric.gauge)


class Health(Schema):
    """Whether a part works, and what is wrong if not."""

    status: str
    database: str = "ok"
    cluster: str = "ok"


@router.get("/healthz")
async def alive() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
async def ready(response: Response, context: CurrentContext) -> Health:
    """Database and cluster answer. 503 while the database does not, or the service stops; a cluster may be away."""
    health = Health(status="ok")
    if context.closing:
        health.status = "stopping"
        response.status_code = 503
    try:
        await context.database.ping()
    except DATABASE_ERRORS:
        health.status, health.database = "unavailable", "no answer"
        response.status_code = 503
    try:
        async with asyncio.timeout(_CLUSTER_TIMEOUT_S):
            await context.jobs.version()
    except (ClusterUnavailable, TimeoutError):
        health.cluster = "no answer"
    return health


@router.get("/metrics", response_class=Response, responses=PROBLEM_RESPONSES)
async def prometheus(_: Viewer, request: Request, context: CurrentContext) -> Response:
    """Metrics for Prometheus; scrape with a viewer's token."""
    registry = await _collect(context)
    space = await request.app.state.storage_space.read()
    if space is not None:
        names = ("adadim_storage_bytes", "adadim_storage_free_bytes")
        for name, words, value in zip(names, ("Size of the storage.", "Room left in the storage."), space, strict=True):
            Gauge(name, words, registry=registry).set(value)
    return Response(generate_latest(REGISTRY) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _collect(context: Context) -> CollectorRegistry:
    registry = CollectorRegistry()
    states = Gauge("adadim_experiments", "Experiments by state.", ["state"], registry=registry)
    oldest = Gauge("adadim_queue_oldest_seconds", "Longest wait among queued experiments.", registry=registry)
    attempts = Gauge("adadim_attempts", "Attempts by state; those that ended by outcome.", ["state"], registry=registry)
    labels = ["experiment", "trial"]
    gauges = {
        name: Gauge(f"adadim_trial_{name}", f"Last {name} of a running trial.", labels, registry=registry)
        for name in TRIAL_METRICS
    }
    async with context.database.transaction() as session:
        for state in ("queued", "starting", "running"):
            states.labels(state).set(0)  # a queue that is empty is a value, not a gap
        for state, count in await repository.experiments_by_state(session):
            states.labels(state).set(count)
        for state, count in await repository.attempts_by_state(session):
            attempts.labels(state).set(count)
        oldest.set(await repository.longest_wait(session))
        for experiment_id, number, latest in await repository.running_trials(session, MAX_TRIALS):
            for name, gauge in gauges.items():
                entry: dict[str, Any] | None = latest.get(name)
                if entry is not None:
                    gauge.labels(str(experiment_id), str(number)).set(decode_float(entry["value"]))
    return registry
