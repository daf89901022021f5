"""The admin token that a database begins with: made by the first service that starts with it, or given in a file.

One a database, however many replicas start at once and whatever their state directories hold: each of them minting its
own would leave as many admins that nobody knows of. Owns when one is made, and what is said where none is.
"""

import asyncio
import logging
import socket
from pathlib import Path

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.auth import repository
from service.auth.service import authenticate, write_down
from service.database.engine import Database
from service.database.tables import Installation, Token
from service.secret import hash_token, new_token, read_secret, write_header, write_token

logger = logging.getLogger(__name__)

_LOCK = 0x_ADAD_1_0005
_INSTALLATION = select(Installation)
_SHORTEST = 32
_VARIABLE = "ADADIM_ADMIN_TOKEN_FILE"


class AdminTokenUnusable(Exception):  # noqa: N818 - a state, and what to do about it
    """The file that is to give the admin token does not. The text says what to do."""


async def ensure_admin_token(database: Database, path: Path, given: Path | None = None) -> Path | None:
    """See to it that the database has an admin token.

    Args:
        database: with its newest schema.
        path: where a token that is made here is written, and found again.
        given: the file of ADADIM_ADMIN_TOKEN_FILE, in whose stead none is made.

    Returns:
        The file with a token that is valid; None if the database has one that is not here.

    Raises:
        AdminTokenUnusable: the given file holds no token, or one that is not an admin's.
    """
    token = await asyncio.to_thread(_given, given) if given is not None else await asyncio.to_thread(read_secret, path)
    async with database.transaction() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        principal = await authenticate(session, token) if token else None
        if given is not None:
            if principal is None and await repository.exists(session, hash_token(token)):
                raise AdminTokenUnusable(f"{_VARIABLE}: the token in {given} was revoked; put another one there")
            if principal is not None and principal.role != "admin":
                raise AdminTokenUnusable(f"{_VARIABLE}: the token in {given} is a {principal.role}'s; it has to be new")
            if principal is None:
                await _add(session, token, f"given in {given} on {socket.gethostname()}")
            return given
        if principal is not None:
            write_header(path, token)  # earlier versions left none
            return path
        if await repository.has_admin(session):
            logger.warning("%s", await _elsewhere(session, path))
            return None
        # A new database learns the token that is there; one that knows it and refuses it gets another.
        if not token or await repository.exists(session, hash_token(token)):
            token = new_token()
        await _add(session, token, f"made in {path} on {socket.gethostname()}")
        # Before the transaction ends: a token that is in no file would be nobody's, for ever.
        write_token(path, token)
    return path


async def replace_admin_token(database: Database, path: Path) -> None:
    """End the admin token that the database began with, and write a new one into the file.

    For whoever has lost it: what it takes is the database itself.
    """
    async with database.transaction() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        installation = (await session.scalars(_INSTALLATION)).one()
        if installation.admin_token_id is not None:
            lost = await repository.revoke(session, installation.admin_token_id)
            if lost is not None:
                await write_down(session, "revoked", lost, by="service", reason="adadim token recover")
        token = new_token()
        await _add(session, token, f"recovered in {path} on {socket.gethostname()}")
        write_token(path, token)


async def _add(session: AsyncSession, token: str, place: str) -> None:
    row: Token = await repository.add(session, name="admin", role="admin", token_hash=hash_token(token))
    await session.execute(update(Installation).values(admin_token_id=row.id, admin_token_place=place))
    await write_down(session, "created", row, by="service", reason=place)


def _given(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AdminTokenUnusable(f"{_VARIABLE}: cannot read {path}: {why}") from None
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise AdminTokenUnusable(
            f"{_VARIABLE}: {path} holds no token: one line of at least {_SHORTEST} characters without blanks, as "
            "`openssl rand -hex 32` makes"
        )
    return token


async def _elsewhere(session: AsyncSession, path: Path) -> str:
    place = (await session.scalars(_INSTALLATION)).one().admin_token_place or "made earlier"
    return (
        f"no admin token in {path}: this database has one, {place}. With it `adadim token create NAME --role admin` "
        "makes another; if it is lost, `adadim token recover` here replaces it"
    )
