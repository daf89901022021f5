"""Requests that are turned away for who sends them: each with a reason a person can act on, each counted."""

import math
from typing import Literal

from service.errors import NotAllowedError, NotAuthenticatedError, TooManyError
from service.telemetry.counters import DENIED

Reason = Literal["no_token", "bad_token", "attempt_token", "role", "owner", "cross_site", "session"]


def unauthorized(reason: Reason, detail: str) -> NotAuthenticatedError:
    """It is not known who asks."""
    DENIED.labels(401, reason).inc()
    return NotAuthenticatedError(detail)


def forbidden(reason: Reason, detail: str) -> NotAllowedError:
    """It is known who asks, and they may not."""
    DENIED.labels(403, reason).inc()
    return NotAllowedError(detail)


def too_many(wait: float, rate: float, whose: str) -> TooManyError:
    """One request too many; `wait` seconds from now it would be taken."""
    DENIED.labels(429, "rate").inc()
    seconds = max(math.ceil(wait), 1)
    detail = f"This {whose} token may make {rate:g} requests a second; go on in {seconds} s."
    return TooManyError(detail, retry_after_s=seconds)
