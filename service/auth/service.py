"""Tokens and roles: how a caller is recognised and what each role may do.

A token is 32 random bytes; the database keeps its SHA-256 only, which suffices for secrets nobody chose.
"""

import asyncio
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy.ext.asyncio import AsyncSession

from service.auth import repository
from service.database.engine import Database

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most allowed; each role may do all that those before it may."""

SESSION_LIFE = timedelta(hours=12)


@dataclass(frozen=True)
class Principal:
    """Who makes a request."""

    name: str
    role: Role
    expires_at: datetime | None = None
    """When the token ends; None for never."""

    def may(self, role: Role) -> bool:
        """Whether this caller may do what the given role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def new_token() -> str:
    """A fresh secret."""
    return "adadim_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def authenticate(session: AsyncSession, token: str) -> Principal | None:
    """Who this token belongs to, or None if it is not valid."""
    row = await repository.find_valid(session, hash_token(token))
    return None if row is None else Principal(row.name, _role(row.role), row.expires_at)


async def open_session(session: AsyncSession, principal: Principal) -> str:
    """A token for a browser's cookie, with the caller's name and role; it never outlives the caller's own token."""
    await repository.remove_expired(session)
    token = new_token()
    expires_at = datetime.now(UTC) + SESSION_LIFE
    if principal.expires_at is not None:
        expires_at = min(expires_at, principal.expires_at)
    await repository.add(
        session,
        name=principal.name,
        role=principal.role,
        token_hash=hash_token(token),
        expires_at=expires_at,
    )
    return token


async def close_session(session: AsyncSession, token: str) -> None:
    """End a browser session."""
    await repository.remove(session, hash_token(token))


async def ensure_admin_token(database: Database, path: Path) -> str:
    """The admin token in `path`, made (and stored hashed) when there is none that the database knows."""
    token = await asyncio.to_thread(read_secret, path)
    async with database.transaction() as session:
        if token and await authenticate(session, token) is not None:
            return token
        token = token or new_token()
        await repository.add(session, name="admin", role="admin", token_hash=hash_token(token))
    write_secret(path, token)
    return token


def read_secret(path: Path) -> str:
    """The secret in a file; empty if there is none."""
    return path.read_text().strip() if path.exists() else ""


def write_secret(path: Path, secret: str) -> None:
    """Write a file only its owner can read. It never exists with wider permissions, nor half written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    temporary.replace(path)


def _role(name: str) -> Role:
    return next(role for role in ROLES if role == name)
