"""Requests that are turned away: 401, 403 and 429, each with a reason a person can act on, each counted."""

from typing import Literal

from prometheus_client import Counter

from service.health.http_metrics import REGISTRY
from service.problems import Problem

DENIED = Counter("adadim_denied_requests", "Requests turned away.", ["status", "reason"], registry=REGISTRY)

Reason = Literal["no_token", "bad_token", "attempt_token", "role", "owner", "cross_site", "rate"]


def unauthorized(reason: Reason, detail: str) -> Problem:
    """401: it is not known who asks."""
    DENIED.labels(401, reason).inc()
    return Problem(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def forbidden(reason: Reason, detail: str) -> Problem:
    """403: it is known who asks, and they may not."""
    DENIED.labels(403, reason).inc()
    return Problem(403, "Forbidden", detail)
