"""DATABASE_URL: read as libpq, PostgreSQL's own client, reads it, and told without its secrets.

Owns which of libpq's parameters are honoured, which have no effect on this client, and which it cannot meet. Does not
connect: connection.py does.
"""

import configparser
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

_DRIVERS = (  # the driver's own reading of these is libpq's
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
)  # fmt: skip
_HERE = (
    "host", "port", "user", "password", "dbname", "passfile", "service", "connect_timeout", "application_name",
    "fallback_application_name", "options", "channel_binding",
)  # fmt: skip
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "sslcompression": ("0", "1"),
    "sslsni": ("1",),
    "sslcertmode": ("allow",),
    "replication": ("false", "off", "no", "0"),
    "gssdelegation": ("0",),
    "load_balance_hosts": ("disable", "random"),
    "min_protocol_version": ("3.0",),
    **dict.fromkeys(
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
         "max_protocol_version", "sslkeylogfile"), (),
    ),
}  # fmt: skip
"""Parameters that change nothing here where they have one of these values; with none named, any."""
_CANNOT = {
    "hostaddr": "write the address as the host",
    "require_auth": "leave it out; what may sign in is the server's to say (pg_hba.conf)",
    "requirepeer": "leave it out",
    "sslcrldir": "name one file by sslcrl",
    "scram_client_key": "give the password",
    "scram_server_key": "give the password",
}
"""What no driver for Python's asyncio has, and what to do."""
_OTHERS = {
    "mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite", "mssql": "SQL Server", "oracle": "Oracle",
    "mongodb": "MongoDB", "redis": "Redis", "jdbc": "JDBC", "cockroachdb": "CockroachDB", "http": "a web server",
    "https": "a web server", "redshift": "Redshift",
}  # fmt: skip
_FORM = "postgresql://user:password@host/database"
_ENCODE = (
    "a character of the user or password means something in an address: write @ as %40, / as %2F, ? as %3F, : as %3A, "
    "# as %23, % as %25"
)
_TIMEOUT_S = 10.0


class WrongAddress(ValueError):  # noqa: N818 - a state, and what to do about it
    """DATABASE_URL cannot be used. The text says why and what to write, and has no part of a password."""


@dataclass(frozen=True)
class Address:
    """Where a database is, and how to connect there."""

    hosts: tuple[tuple[str | None, int | None], ...]
    """Names or addresses, or folders of sockets, with their ports, in the order to try them. None: the driver's."""
    user: str | None
    database: str | None
    timeout_s: float | None
    """For one host."""
    settings: Mapping[str, str]
    """Sent when a connection begins."""
    driver: Mapping[str, str] = field(repr=False)
    """libpq's parameters that the driver reads itself."""
    arguments: Mapping[str, Any] = field(repr=False)
    """More for the driver: secrets."""
    without_effect: tuple[str, ...] = ()
    """Parameters that were given and change nothing."""
    by_certificate: bool = False
    """channel_binding=require: the server is known by its certificate instead, which protects from the same."""

    @property
    def place(self) -> str:
        """For people: hosts and database."""
        names = ",".join(_shown(host or os.environ.get("PGHOST"), port) for host, port in self.hosts)
        return f"{names}/{self.database or self.user or ''}"

    @property
    def dsn(self) -> str:
        """The parameters for the driver, without anything that says where or who."""
        return "postgresql://?" + urlencode(self.driver)

    def tls(self) -> ssl.SSLContext | None:
        """TLS by the certificates of the system; None: as `driver` says.

        Raises:
            OSError: a file of the client's certificate cannot be used.
        """
        if self.driver.get("sslrootcert") != "system":
            return None
        context = ssl.create_default_context()
        if cert := self.driver.get("sslcert"):
            context.load_cert_chain(cert, self.driver.get("sslkey"), self.driver.get("sslpassword"))
        return context


def read_address(url: str) -> Address:
    """A PostgreSQL URL as libpq reads it; a driver's name in its scheme (postgresql+asyncpg) is passed over.

    Raises:
        WrongAddress: it is none, or asks for what this client cannot do.
    """
    url = url.strip()
    if not url:
        raise WrongAddress(f"is empty; unset it for the embedded database, or write {_FORM}")
    scheme = re.match(r"postgres(ql)?(\+\w+)?://", url, re.IGNORECASE)
    if scheme is None:
        other = _OTHERS.get(re.split(r"[:+]", url, maxsplit=1)[0].lower())
        raise WrongAddress(f"should begin with postgresql://{f' (this names {other})' if other else ''}: {_FORM}")
    try:
        url.encode()
        unquote(url, errors="strict")
    except UnicodeError:
        raise WrongAddress(
            "is not UTF-8: write every character that is not ASCII as its bytes in UTF-8, as %C3%BC"
        ) from None
    rest, _, query = url[scheme.end() :].partition("?")
    authority, _, database = rest.partition("/")
    if authority.count("@") > 1 or "@" in database:
        raise WrongAddress(_ENCODE)
    who, _, where = authority.rpartition("@")
    user, _, password = who.partition(":")
    try:
        given = _parameters(query)
        found = _hosts_of(where) if where else {}
    except WrongAddress:
        if "@" in query and not who:  # what was read as names, ports and parameters may be a password
            raise WrongAddress(_ENCODE) from None
        raise
    for name, value in (("user", user), ("password", password), ("dbname", database)):
        if value:
            found[name] = unquote(value)
    found = _service(given) | found | given
    if any("\0" in value for value in found.values()):
        raise WrongAddress("holds a zero byte (%00)")
    return _address(found)


def _parameters(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        name, value = unquote(name), unquote(value)
        if name == "ssl":  # of JDBC and of SQLAlchemy
            name, value = "sslmode", {"true": "require", "false": "disable"}.get(value.lower(), value)
        shown = name if re.fullmatch(r"[A-Za-z_]{2,40}", name) and equals else None
        if name in _CANNOT:
            raise WrongAddress(f"{name} is not supported: {_CANNOT[name]}")
        allowed = _WITHOUT_EFFECT.get(name)
        if allowed and value.lower() not in allowed:
            raise WrongAddress(f"{name}={value[:20]} is not supported; leave it out" if shown else _ENCODE)
        if shown is None or not (allowed is not None or name in _DRIVERS or name in _HERE):
            what = f"{shown} is" if shown else "a part after the ? is"
            raise WrongAddress(
                f"{what} no parameter of a PostgreSQL address; settings of the server go into "
                "options=-csearch_path%3Dlab, and in a password ? is written %3F"
            )
        given[name] = value
    return given


def _hosts_of(where: str) -> dict[str, str]:
    """Hosts and ports of the part before the path."""
    hosts, ports = [], []
    for one in where.split(","):
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::([^:]*))?", one)
        if match is None:
            raise WrongAddress(f"a host cannot be read; it looks like name:5432 or [::1]:5432 ({_FORM})")
        hosts.append(unquote(match[1].strip("[]")))
        ports.append(unquote(match[2] or ""))
    found = {"host": ",".join(hosts)} if any(hosts) else {}
    return found | ({"port": ",".join(ports)} if any(ports) else {})


def _service(given: Mapping[str, str]) -> dict[str, str]:
    """What the file of services says of the one that is named."""
    name = given.get("service")
    if name is None:
        return {}
    path = Path(os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf").expanduser()
    services = configparser.ConfigParser(interpolation=None)
    try:
        services.read_string(path.read_text())
        return {key: value for key, value in services[name].items() if key in _DRIVERS or key in _HERE}
    except (OSError, UnicodeError, configparser.Error, KeyError):
        raise WrongAddress(f"service={name[:40]}: {path} has no such section") from None


def _address(found: Mapping[str, str]) -> Address:
    driver = {name: found[name] for name in _DRIVERS if found.get(name)}
    if driver.get("sslmode", "prefer") not in _SSL_MODES:
        raise WrongAddress(f"sslmode is one of {', '.join(_SSL_MODES)}")
    by_certificate = found.get("channel_binding") == "require"
    if found.get("channel_binding", "prefer") not in ("disable", "prefer", "require"):
        raise WrongAddress("channel_binding is one of disable, prefer, require")
    if by_certificate:
        driver["sslmode"] = "verify-full"
        driver.setdefault("sslrootcert", "system")
    if driver.get("sslrootcert") == "system" and driver.setdefault("sslmode", "verify-full") != "verify-full":
        raise WrongAddress("sslrootcert=system takes sslmode=verify-full: the system trusts many others, too")
    for name in _FILES:
        _readable(name, found.get(name, ""))
        variable = f"PG{name.upper()}"  # as libpq has it, which does without the file of passwords
        if name != "passfile" and not found.get(name) and driver.get("sslmode") != "disable":
            _readable(variable, os.environ.get(variable, ""))
    settings = {"application_name": found.get("application_name") or found.get("fallback_application_name") or "adadim"}
    if found.get("options"):
        settings["options"] = found["options"]
    return Address(
        hosts=_hosts(found),
        user=found.get("user") or None,
        database=found.get("dbname") or None,
        timeout_s=_seconds(found.get("connect_timeout")),
        settings=settings,
        driver=driver,
        arguments={name: found[name] for name in ("password", "passfile") if found.get(name)},
        without_effect=tuple(sorted(name for name in found if name in _WITHOUT_EFFECT)),
        by_certificate=by_certificate,
    )


def _hosts(found: Mapping[str, str]) -> tuple[tuple[str | None, int | None], ...]:
    hosts: list[str | None] = [host or None for host in found.get("host", "").split(",")]
    ports = [_port(port) for port in found.get("port", "").split(",")]
    for host in hosts:
        if host is not None and not host.startswith("/"):
            try:
                host.encode("idna")
            except UnicodeError:
                raise WrongAddress(f"a host is no name of a machine; or {_ENCODE}") from None
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise WrongAddress(f"has {len(hosts)} hosts and {len(ports)} ports")
    return tuple(zip(hosts, ports, strict=True))


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise WrongAddress(f"a port is no number from 1 to 65535; or {_ENCODE}")
    return int(text)


def _seconds(text: str | None) -> float | None:
    """libpq's connect_timeout: whole seconds, of which 0 and less are no limit."""
    if not text:
        return _TIMEOUT_S
    if not re.fullmatch(r"\s*-?[0-9]{1,9}\s*", text):
        raise WrongAddress("connect_timeout is a whole number of seconds")
    return float(text) if int(text) > 0 else None


def _readable(name: str, path: str) -> None:
    if not path or (name == "sslrootcert" and path == "system"):
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise WrongAddress(f"{name}: {path}: {error.strerror}") from None


def _shown(host: str | None, port: int | None) -> str:
    host = "local socket" if host is None else f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"
