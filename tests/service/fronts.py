"""What stands before a database or a service in the world: ends of TCP and TLS, poolers, a lab's own CA."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import shutil
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from service_harness import until

Opener = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
"""The program; None: it is not installed."""
_SSL_REQUEST = struct.pack("!ll", 8, 80877103)


@dataclass(frozen=True)
class Authority:
    """A CA, with what it signed: files of certificates and keys."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def server(self, *hosts: str, days: int = 2) -> ssl.SSLContext:
        """How a server of these names shows itself. `days` below 0: its certificate is over since then."""
        file = self.folder / f"{'-'.join(hosts)}{days}.pem".replace(":", "_")
        if not file.exists():
            _sign(self.folder, file, hosts, days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def make_authority(folder: Path) -> Authority:
    """A new CA in an empty folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The lab's own CA")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.key").write_bytes(_text(key))
    return Authority(folder)


def _sign(folder: Path, file: Path, hosts: tuple[str, ...], days: int) -> None:
    issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    issuer_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=20))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    file.write_bytes(_text(key) + certificate.public_bytes(serialization.Encoding.PEM))


def _text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextlib.asynccontextmanager
async def front(opener: Opener, tls: ssl.SSLContext | None = None, *, postgres: bool = False) -> AsyncIterator[int]:
    """A TCP port before something else, with TLS or without; `postgres`: TLS begins as PostgreSQL's does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            first = b""
            if postgres:
                first = await reader.readexactly(8)
                if first == _SSL_REQUEST:
                    writer.write(b"S" if tls else b"N")
                    first = b""
                    if tls:
                        await writer.start_tls(tls)
            upstream_reader, upstream = await opener()
            upstream.write(first)
            await asyncio.gather(_pump(reader, upstream), _pump(upstream_reader, writer))
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # one end is gone
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def forward_proxy(ports: dict[str, int]) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP proxy that knows names no other knows: `host:port` to ports of this machine.

    Yields its own port, and the request lines it gets. What it does not know it answers 502.
    """
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, _, fields = head.partition("\r\n")
            asked.append(line)
            method, target, version = line.split(" ")
            place, slash, path = target.removeprefix("http://").partition("/")
            if place not in ports:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", ports[place])
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                fields = fields.replace("\r\nConnection: keep-alive", "\r\nConnection: close")
                upstream.write(f"{method} {slash}{path} {version}\r\n{fields}".encode())
            await asyncio.gather(_pump(reader, upstream), _pump(upstream_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one end is gone
        finally:
            if upstream is not None:
                upstream.transport.abort()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def pgbouncer(folder: Path, port: int, users: dict[str, str], **settings: str) -> AsyncIterator[int]:
    """PgBouncer before the PostgreSQL at a port of this machine. Yields its own port."""
    async with front(asyncio.open_connection) as free:  # a port that is free a moment later
        pass
    process = _start_pgbouncer(folder, port, free, users, settings)

    async def listens() -> bool:
        assert process.poll() is None, _log(folder)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", free)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens, "PgBouncer", seconds=30)
        yield free
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def _start_pgbouncer(
    folder: Path, port: int, own_port: int, users: dict[str, str], settings: dict[str, str]
) -> subprocess.Popen[bytes]:
    folder.mkdir(mode=0o755)
    (folder / "users.txt").write_text("".join(f'"{name}" "{password}"\n' for name, password in users.items()))
    values = {
        "listen_addr": "127.0.0.1", "listen_port": str(own_port), "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users.txt"), "unix_socket_dir": "", **settings,
    }  # fmt: skip
    lines = ["[databases]", f"* = host=127.0.0.1 port={port}", "[pgbouncer]"]
    (folder / "pgbouncer.ini").write_text("\n".join(lines + [f"{k} = {v}" for k, v in values.items()]) + "\n")
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([str(PGBOUNCER), *user, str(folder / "pgbouncer.ini")], stdout=log, stderr=log)


def _log(folder: Path) -> str:
    return (folder / "log").read_text()
