"""How HTTP leaves this machine: whose certificates are trusted, which proxy is in between, and why TLS failed.

Owns the reading of the environment for everything here that speaks HTTP: client, command line, service and workers.
Speaks none itself, and imports no library that does.
"""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name a file of CAs, as OpenSSL, requests and curl have them; the first that is set counts."""
_FOLDER = "SSL_CERT_DIR"
# Where systems keep theirs: a Python that was built elsewhere may look in another place.
_SYSTEMS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SOCKS = ("socks5", "socks5h")


class ProxyUnusable(ValueError):  # noqa: N818 - a state, and what to do about it
    """The proxy that the environment names cannot be used. The text says why and what to do."""


def options(url: str) -> dict[str, Any]:
    """What an httpx client of this address takes: `httpx.Client(**options(url), ...)`.

    Raises:
        ProxyUnusable: the environment's proxy for it is none.
    """
    if not url.lower().startswith("https:"):
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused, and at once there
    else:
        verify = _trusted(*(os.environ.get(name, "") for name in (*_FILES, _FOLDER)))
    return {"verify": verify, "proxy": proxy(url), "trust_env": False}


def proxy(url: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The proxy for this address by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, small letters first.

    This machine is always reached directly. NO_PROXY takes names with all below them, addresses, networks and `*`.

    Raises:
        ProxyUnusable: what is named there is no proxy.
    """
    environment = os.environ if environment is None else environment
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None  # no address: whoever asks there is told
    if is_here(host) or _excepted(host, port or {"https": 443}.get(parts.scheme, 80), _get(environment, "no_proxy")):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        if value := _get(environment, name).strip():
            return _checked(name.upper(), value if "://" in value else f"http://{value}", host)
    return None


def _get(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _checked(name: str, value: str, host: str) -> str:
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https", *_SOCKS) and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        raise ProxyUnusable(f"{name} names no proxy: it looks like http://proxy:3128")
    if parts.scheme in _SOCKS and find_spec("socksio") is None:
        raise ProxyUnusable(
            f"{name} names a SOCKS proxy, which takes the package socksio: install it, or add {host} to NO_PROXY"
        )
    return value


def is_here(host: str | None) -> bool:
    """Whether a name or an address is this machine's own."""
    host = (host or "").strip("[]").lower()
    if host in _LOOPBACK or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _excepted(host: str, port: int, exceptions: str) -> bool:
    for entry in filter(None, (part.strip().lower() for part in exceptions.replace(" ", ",").split(","))):
        if entry == "*":
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
            continue
        except ValueError:
            pass  # a name on one side
        name, colon, its_port = entry.rpartition(":")
        if not (colon and its_port.isdecimal()):
            name = entry
        elif int(its_port) != port:
            continue
        name = name.strip("[]").removeprefix("*").lstrip(".")
        if host == name or host.endswith(f".{name}"):
            return True
    return False


@lru_cache(maxsize=8)
def _trusted(*named: str) -> ssl.SSLContext:
    """Whose certificates are trusted: the environment's CAs where it names any, else the system's and certifi's."""
    if any(named):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        file = next((name for name in named[:-1] if name), "")
        _load(context, file, named[-1])
        return context
    context = ssl.create_default_context()
    for file in _SYSTEMS:
        _load(context, file)
    if find_spec("certifi") is not None:
        import certifi

        _load(context, certifi.where())
    return context


def _load(context: ssl.SSLContext, file: str, folder: str = "") -> None:
    """Trust these too. What cannot be read is trusted less, and told where a certificate is refused."""
    for path in (file, folder):
        if path and Path(path).is_dir():
            context.load_verify_locations(capath=path)
        elif path:
            try:
                context.load_verify_locations(cafile=path)
            except OSError:  # ssl.SSLError among them
                continue


def reason(error: BaseException) -> str:
    """Why no answer came, in one line; of TLS as what it is, with what to do.

    Args:
        error: what a library raised, with the errors that caused it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_reason(cause)
        if isinstance(cause, ssl.SSLError):
            return _tls_reason(cause)
        cause = cause.__cause__ or cause.__context__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_tls(error: BaseException) -> bool:
    """Whether it is TLS that failed: whoever answers is there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _certificate_reason(error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message.rstrip(".")
    if "ostname mismatch" in why or "IP address mismatch" in why:
        return f"its certificate is another's: {why}; use a name that the certificate has"
    if "expired" in why:
        return f"its certificate is over: {why}; renew it, or set this machine's clock"
    if "not yet valid" in why:
        return f"its certificate does not hold yet: {why}; set this machine's clock"
    for name in (*_FILES, _FOLDER):
        if (path := os.environ.get(name)) and not Path(path).exists():
            return f"its certificate is from an unknown CA: {why}; {name} names {path}, which is not there"
    return (
        f"its certificate is from an unknown CA: {why}; name the CA's file by SSL_CERT_FILE, or add it to those that "
        "this system trusts"
    )


def _tls_reason(error: ssl.SSLError) -> str:
    words = str(error.reason or error).replace("_", " ").lower()
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return f"it speaks no TLS ({words}); its address may begin with http://"
    if error.reason and "CERTIFICATE_REQUIRED" in error.reason:
        return f"it asks for a certificate of ours ({words}), which is not supported"
    return f"no TLS with it ({words})"


def route(url: str) -> str:
    """An address for people, with the proxy that the environment puts before it."""
    try:
        between = proxy(url)
    except ProxyUnusable:
        between = None
    if between is None:
        return url
    parts = urlsplit(between)
    return f"{url} (through the proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]} of the environment)"
