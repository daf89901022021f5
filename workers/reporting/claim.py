"""How a job's driver comes by the right to report: it makes a token, and proves to the service that it is the job.

Owns the token and the proof; the request is connection.py's. What the job was started with is no secret: Ray shows it
to every user of the node.
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from adadim_core.spec.attempt_proof import proof, token_digest

KEY = "ADADIM_JOB_KEY"


@dataclass(frozen=True)
class Claim:
    """What the service is asked to bind an attempt to. The same every time it is asked."""

    code: str = field(repr=False)
    sha256: str
    proof: str | None = field(repr=False)

    @classmethod
    def of(cls, attempt: str, code: str, token: str) -> "Claim":
        """That reports of this attempt, whose job was started with `code`, will carry `token`."""
        sha256, key = token_digest(token), cluster_key()
        return cls(code, sha256, proof(key, attempt, code, sha256) if key else None)


def new_token() -> str:
    """A token that only this process knows."""
    return "adadim_" + secrets.token_urlsafe(32)


def cluster_key() -> str | None:
    """What the cluster's processes know and its onlookers do not: its token, found where Ray looks for it."""
    for name in (KEY, "RAY_AUTH_TOKEN"):
        if value := os.environ.get(name, "").strip():
            return value
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        return Path(path or "~/.ray/auth_token").expanduser().read_text(encoding="utf-8").strip() or None
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None
