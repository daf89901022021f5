"""One connection to PostgreSQL, and why there is none: in a line for people, with what to do, and whether to wait.

Owns the meaning of what connecting raises. Does not look at what is in the database: check.py does.
"""

import getpass
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg
from asyncpg.exceptions import InternalClientError, TargetServerAttributeNotMatched

from service.database.address import Address

CONNECT_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, InternalClientError)
"""What `connect` raises."""
_NEXT_HOST = (OSError, TimeoutError, asyncpg.CannotConnectNowError, TargetServerAttributeNotMatched)
_ENCODED = "characters such as @ : / ? # % of a password are written %40 %3A %2F %3F %23 %25 in an address"


async def connect(address: Address, session: Mapping[str, str] | None = None) -> asyncpg.Connection:
    """Connect to the first host that takes us; each gets the whole of the time.

    Args:
        address: Where to, and how.
        session: Settings of the server for this connection. They are set once it stands: poolers such as PgBouncer
            refuse what they do not know among the settings that a connection begins with.

    Raises:
        CONNECT_ERRORS: what happened at the last host that was tried; `trouble` has it in words.
    """
    wanted = address.driver.get("target_session_attrs")
    rounds = ("standby", "any") if wanted == "prefer-standby" else (wanted,)
    tries = [(host, port, attributes) for attributes in rounds for host, port in address.hosts]
    for host, port, attributes in tries[:-1]:
        try:
            return await _connect(address, host, port, attributes, session or {})
        except ssl.SSLError:  # an OSError that another host does not mend
            raise
        except _NEXT_HOST:
            continue
    return await _connect(address, *tries[-1], session or {})


async def _connect(
    address: Address, host: str | None, port: int | None, attributes: str | None, session: Mapping[str, str]
) -> asyncpg.Connection:
    try:
        connection: asyncpg.Connection = await asyncpg.connect(
            address.dsn,
            host=host,
            port=port,
            user=address.user or os.environ.get("PGUSER") or _user(),
            database=address.database,
            timeout=address.timeout_s,
            ssl=address.tls(),
            target_session_attrs=attributes,
            server_settings=dict(address.settings),
            **address.arguments,
        )
    except (asyncpg.InterfaceError, OSError):  # of which some are ValueError, too
        raise
    except ValueError as error:  # PGPORT, say
        raise asyncpg.exceptions.ClientConfigurationError(f"in a PG... variable: {error}") from None
    if session:
        try:
            await connection.execute("; ".join(f"SET {name} = {value}" for name, value in session.items()))
        except BaseException:
            connection.terminate()
            raise
    return connection


@dataclass(frozen=True)
class Trouble:
    """Why a database cannot be used, in one line."""

    text: str
    remedy: str
    may_pass: bool = False
    """It may be there later, as it is: a server that starts. Else waiting does not help."""

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


_CHECK = "check DATABASE_URL"
_CA = "name its CA's file by sslrootcert=, or sslrootcert=system for the CAs that this machine trusts"
_CODES = {
    "28P01": ("refuses the password", f"{_CHECK}: {_ENCODED}"),
    "28000": ("refuses to let us in", "check user and sslmode, and the server's pg_hba.conf"),
    "3D000": ("is not there", f"CREATE DATABASE makes it, or {_CHECK}"),
    "42501": ("lacks rights for us", "GRANT CONNECT ON DATABASE ... TO the user"),
    "55000": ("takes no connections", "give AdaDim a database of its own"),  # a template
}
"""What a server says by a code at once and will say again, and what to do."""


def trouble(error: BaseException, address: Address) -> Trouble:
    """What an error of CONNECT_ERRORS means, for people. Nothing in it is secret."""
    place, words = f"the database at {address.place}", first_line(error)
    code = str(getattr(error, "sqlstate", None) or "")
    if code in _CODES:
        what, remedy = _CODES[code]
        return Trouble(f"{place} {what} ({words})", remedy)
    if "startup parameter" in words or (code in ("22023", "42704") and "parameter" in words):
        remedy = "leave it out, or ALTER ROLE ... SET it; a PgBouncer may ignore it (ignore_startup_parameters)"
        return Trouble(f"{place} refuses what options= sets ({words})", remedy)
    if code == "08P01" and re.search(r"no such (database|user)|not allowed|auth", words, re.IGNORECASE):
        return Trouble(f"the pooler of {place} does not let us in ({words})", f"{_CHECK} and the pooler's settings")
    if isinstance(error, ssl.SSLError):
        return _tls_trouble(error, address)
    if "rejected SSL upgrade" in words:
        mode = address.driver.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
        if mode in ("allow", "prefer"):  # PostgreSQL says yes or no
            return Trouble(f"what answers at {address.place} is not PostgreSQL", _CHECK)
        remedy = "switch it on there (ssl = on), or leave sslmode out where the network is your own"
        return Trouble(f"{place} offers no TLS, which sslmode={mode} asks for", remedy)
    if "root certificate" in words:
        return Trouble(f"the certificate of {place} cannot be checked ({words})", _CA)
    if isinstance(error, PermissionError | asyncpg.exceptions.ClientConfigurationError) or (
        isinstance(error, OSError) and error.errno is None and not isinstance(error, ConnectionError | TimeoutError)
    ):
        return Trouble(f"{place} cannot be asked ({words})", _CHECK)
    return _passing(error, address)


def _passing(error: BaseException, address: Address) -> Trouble:
    """What a server that is not there yet, or is busy, looks like. Something else may look like it, too."""
    place, words = f"the database at {address.place}", first_line(error)
    if str(getattr(error, "sqlstate", None) or "").startswith("53"):
        return Trouble(f"{place} is full ({words})", "a service takes up to 30 connections", may_pass=True)
    if isinstance(error, socket.gaierror):
        return Trouble(f"the host of {place} is not known ({error.strerror})", _CHECK, may_pass=True)
    if isinstance(error, TargetServerAttributeNotMatched):
        remedy = "see to its primary, or change target_session_attrs"
        return Trouble(f"{place} is not {address.driver.get('target_session_attrs')} now", remedy, may_pass=True)
    if isinstance(error, TimeoutError):
        return Trouble(f"no answer from {place} in time", _CHECK, may_pass=True)
    if isinstance(error, OSError) and not isinstance(error, ConnectionResetError):
        return Trouble(f"no answer from {place} ({words}): nothing listens there", _CHECK, may_pass=True)
    return Trouble(f"no answer from {place} ({words})", f"{_CHECK}; is that PostgreSQL?", may_pass=True)


def _tls_trouble(error: ssl.SSLError, address: Address) -> Trouble:
    place = f"the database at {address.place}"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Trouble(f"no TLS with {place} ({first_line(error)})", "check sslcert, sslkey, sslrootcert and sslmode")
    why = error.verify_message.rstrip(".")
    if "ostname mismatch" in why or "IP address mismatch" in why:
        remedy = "write the host as its certificate names it"
    elif "expired" in why or "not yet valid" in why:
        remedy = "renew the server's certificate, or set this machine's clock"
    elif address.driver.get("sslrootcert") == "system" and not address.by_certificate:
        remedy = "name its CA's file by sslrootcert=, or add it to those that this machine trusts (SSL_CERT_FILE)"
    else:
        remedy = _CA
        if address.by_certificate:
            remedy += " (the driver has no channel binding: channel_binding=require checks the certificate instead)"
    return Trouble(f"the certificate of {place} is refused ({why})", remedy)


def first_line(error: BaseException) -> str:
    """An error's first line, or its kind where it says nothing."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__


def _user() -> str:
    """Who we are where the address says nothing, as libpq has it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise asyncpg.exceptions.ClientConfigurationError(
            "no user is named, and this process's user has no name"
        ) from None
