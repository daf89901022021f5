"""Requests that are turned away: 401, 403 and 429, each with a reason a person can act on, each counted."""

import math
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


def too_many(wait: float, rate: float, whose: str) -> Problem:
    """429: one request too many; `wait` seconds from now it would be taken."""
    DENIED.labels(429, "rate").inc()
    seconds = max(math.ceil(wait), 1)
    detail = f"This {whose} token may make {rate:g} requests a second; go on in {seconds} s."
    return Problem(429, "Too many requests", detail, headers={"Retry-After": str(seconds)})
