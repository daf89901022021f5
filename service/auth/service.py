"""Tokens and roles: how a caller is recognised and what each role may do. HTTP is in dependencies.py."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy.ext.asyncio import AsyncSession

from service.auth import repository
from service.database import audit
from service.database.tables import Token
from service.errors import NotFoundError
from service.secret import hash_token, new_token

logger = logging.getLogger(__name__)

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most allowed; each role may do all that those before it may."""

SESSION_LIFE = timedelta(hours=12)
NOT_VALID = "The token is not valid: it is wrong, has expired or was revoked."
_USED_WITHIN = timedelta(minutes=10)
"""How exactly a token's last use is known: writing it down at every request would cost as much as the request."""


@dataclass(frozen=True)
class Principal:
    """Who makes a request."""

    token_id: int
    """The token a person holds; for a browser session the one that opened it."""
    name: str
    """Whose token it is: what they submit is theirs, whichever of their tokens they use."""
    role: Role
    expires_at: datetime | None = None
    """When the token ends; None for never."""
    session_id: int | None = None
    """The browser session the request came with; None for one that carried a token."""

    @property
    def holds(self) -> int:
        """What the request stands on: the browser session, or else the token."""
        return self.token_id if self.session_id is None else self.session_id

    def may_change(self, owner: str) -> bool:
        """Whether this caller may change what belongs to `owner`."""
        return self.role == "admin" or (self.role == "submitter" and self.name == owner)

    def may(self, role: Role) -> bool:
        """Whether this caller may do what the given role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


async def authenticate(session: AsyncSession, token: str, *, of_browser: bool = False) -> Principal | None:
    """Who this token belongs to, or None if it is not valid.

    Args:
        of_browser: it came as a cookie. Browser sessions are valid there and nowhere else, and tokens are not.
    """
    found = await repository.find_valid(session, hash_token(token), _USED_WITHIN, of_browser=of_browser)
    if found is None:
        return None
    row, note_use = found
    session_id = None if row.parent_id is None else row.id
    principal = Principal(row.parent_id or row.id, row.name, _role(row.role), row.expires_at, session_id)
    if note_use:
        await repository.mark_used(session, principal.token_id)
    return principal


async def create(
    session: AsyncSession, *, name: str, role: Role, life: timedelta | None, by: Principal
) -> tuple[Token, str]:
    """A new token and its value, which nobody can ask for again. `life` None: until it is revoked."""
    value = new_token()
    expires_at = None if life is None else datetime.now(UTC) + life
    token = await repository.add(session, name=name, role=role, token_hash=hash_token(value), expires_at=expires_at)
    expires = None if expires_at is None else expires_at.isoformat()
    await write_down(session, "created", token, by=by.name, with_token=by.token_id, expires_at=expires)
    logger.info("token %d (%s, %s) created by %s", token.id, name, role, by.name)
    return token, value


async def revoke(session: AsyncSession, token_id: int, *, by: Principal) -> None:
    """End a token and every browser session it opened. Raises NotFoundError."""
    token = await repository.revoke(session, token_id)
    if token is None:
        raise NotFoundError.of("token", token_id)
    await write_down(session, "revoked", token, by=by.name, with_token=by.token_id)
    logger.info("token %d (%s, %s) revoked by %s", token_id, token.name, token.role, by.name)


async def open_session(session: AsyncSession, principal: Principal) -> str:
    """A token for a browser's cookie, with the caller's name and role; it ends with the caller's own token."""
    await repository.remove_expired_sessions(session)
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
        parent_id=principal.token_id,
    )
    details = {"token_id": principal.token_id, "role": principal.role}
    await audit.append(session, by=principal.name, action="session.opened", subject=principal.name, details=details)
    return token


async def close_session(session: AsyncSession, token: str) -> None:
    """End a browser session."""
    await repository.remove_session(session, hash_token(token))


async def write_down(session: AsyncSession, what: str, token: Token, *, by: str, **details: Any) -> None:
    """Put into the audit that a token was `created` or `revoked`."""
    details |= {"token_id": token.id, "role": token.role}
    await audit.append(session, by=by, action=f"token.{what}", subject=token.name, details=details)


def _role(name: str) -> Role:
    return next(role for role in ROLES if role == name)
