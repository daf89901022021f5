"""Networks that people have: a lab's own CA and proxies, for client, command line, service to Ray, and workers."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fronts import Authority, forward_proxy, front, make_authority
from service_harness import RAY_TOKEN, RayStandIn, Running, make_settings
from typer.testing import CliRunner

from adadim.client import Client, ClientError
from adadim_core import network
from adadim_core.spec.report import Report
from service.cli import doctor
from service.cli.main import app
from service.cluster.jobs import ClusterUnavailable, RayJobs
from workers.reporting.connection import Connection, ServiceAddress, Superseded, Unavailable

_VARIABLES = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("ssl_cert_file", "ssl_cert_dir", "requests_ca_bundle", "curl_ca_bundle"),
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def behind(port: int, tls: ssl.SSLContext | None = None) -> Any:
    return front(lambda: asyncio.open_connection("127.0.0.1", port), tls)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def told(url: str, token: str) -> str:
    """What the client gets there: a list, or the words of its error."""
    try:
        with Client(url, token) as client:
            return f"{len(await asyncio.to_thread(client.experiments))} experiments"
    except ClientError as error:
        return "SEVERAL LINES" if "\n" in str(error) else str(error)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
async def test_client_and_command_line_trust_the_labs_ca(
    service: Running, authority: Authority, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name == "SSL_CERT_DIR":
        folder = tmp_path / "certs"
        folder.mkdir()
        hashed = "HASH.0".replace("HASH", _subject_hash(authority))
        (folder / hashed).write_bytes(authority.file.read_bytes())
        monkeypatch.setenv(name, str(folder))
    else:
        monkeypatch.setenv(name, str(authority.file))
    async with behind(port_of(service.url), authority.server("localhost")) as port:
        assert await told(f"https://localhost:{port}", service.token) == "0 experiments"
        monkeypatch.setenv("ADADIM_URL", f"https://localhost:{port}")
        monkeypatch.setenv("ADADIM_TOKEN", service.token)
        listed = await asyncio.to_thread(CliRunner().invoke, app, ["list"])
        assert listed.exit_code == 0, listed.output


def _subject_hash(authority: Authority) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("takes openssl, which names the files of such a folder")
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(authority.file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_the_systems_cas_are_trusted(
    service: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_SYSTEMS", (str(authority.file),))
    network._trusted.cache_clear()
    async with behind(port_of(service.url), authority.server("localhost")) as port:
        assert await told(f"https://localhost:{port}", service.token) == "0 experiments"
    network._trusted.cache_clear()


async def test_what_is_wrong_with_tls_is_told_as_what_it_is(
    service: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = port_of(service.url)
    async with behind(backend, authority.server("localhost")) as port:
        url = f"https://localhost:{port}"
        unknown = await told(url, service.token)
        assert unknown.startswith(f"no answer from {url} (its certificate is from an unknown CA: ")
        assert "name the CA's file by SSL_CERT_FILE" in unknown
        assert "serve" not in unknown
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
        assert f"SSL_CERT_FILE names {tmp_path}/absent.pem, which is not there" in await told(url, service.token)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        other = await told(f"https://127.0.0.1:{port}", service.token)
        assert "its certificate is another's: IP address mismatch" in other
    async with behind(backend, authority.server("localhost", days=-1)) as port:
        assert "its certificate is over: certificate has expired" in await told(
            f"https://localhost:{port}", service.token
        )
    async with behind(backend, authority.server("elsewhere.lab")) as port:
        assert "its certificate is another's: Hostname mismatch" in await told(
            f"https://localhost:{port}", service.token
        )
    assert "it speaks no TLS" in await told(f"https://localhost:{backend}", service.token)


async def test_the_service_reaches_ray_by_the_labs_ca_and_says_why_not(
    authority: Authority, ray: RayStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr(doctor, "_MAX_SKEW_S", 60.0)  # what is asked for the time may take long to answer
    async with behind(port_of(ray.address), authority.server("localhost")) as port:
        address = f"https://localhost:{port}"
        settings = make_settings(tmp_path, database_url=database_url, ray_address=address, ray_auth_token=RAY_TOKEN)
        jobs = RayJobs()
        await jobs.connect(address, RAY_TOKEN)
        with pytest.raises(ClusterUnavailable, match=r"no answer from Ray at .*unknown CA.*SSL_CERT_FILE"):
            await jobs.version()
        (refused,) = [finding for finding in await doctor._cluster(settings) if finding.name == "cluster"]
        assert not refused.ok
        assert "its certificate is from an unknown CA" in refused.text
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        await jobs.connect(address, RAY_TOKEN)
        assert await jobs.version() == "2.60.0"
        assert all(finding.ok for finding in await doctor._cluster(settings))
        await jobs.close()


async def test_workers_reach_the_service_by_the_labs_ca_and_say_why_not(
    service: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def report(url: str) -> str:
        connection = Connection(ServiceAddress(url, "1", "adadim_none"))
        try:
            await asyncio.to_thread(connection.post, Report())
        except Superseded:
            return "heard"  # by the service, which knows no such attempt
        except Unavailable as error:
            return str(error)
        finally:
            connection.close()
        return "taken"

    async with behind(port_of(service.url), authority.server("localhost", "labhost")) as port:
        url = f"https://localhost:{port}"
        assert "its certificate is from an unknown CA" in await report(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert await report(url) == "heard"
        async with forward_proxy({f"labhost:{port}": port}) as (proxy, asked):
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            assert await report(f"https://labhost:{port}") == "heard"
            assert asked == [f"CONNECT labhost:{port} HTTP/1.1"]


@pytest.fixture
async def proxied(service: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """The service has the name labhost at a proxy, and nowhere else."""
    async with forward_proxy({"labhost:8080": port_of(service.url)}) as (port, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://lab:hush@127.0.0.1:{port}")
        yield asked


async def test_the_client_goes_through_the_environments_proxy(
    service: Running, proxied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://labhost:8080"
    assert await told(url, service.token) == "0 experiments"
    assert proxied[0].startswith("GET http://labhost:8080/api/v1/experiments")
    assert await told(service.url, service.token) == "0 experiments"  # this machine: directly
    assert len(proxied) == 1
    absent = await told("http://absenthost:8080", service.token)
    assert "502" in absent
    monkeypatch.setenv("NO_PROXY", "labhost")
    refused = await told(url, service.token)
    assert refused.startswith(f"no answer from {url} (")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://lab:hush@127.0.0.1:1")
    refused = await told(url, service.token)
    assert refused.startswith(f"no answer from {url} (through the proxy http://127.0.0.1:1 of the environment) (")
    monkeypatch.setenv("HTTP_PROXY", "socks9://127.0.0.1:1")
    assert "HTTP_PROXY names no proxy" in await told(url, service.token)


async def test_ray_is_reached_through_the_environments_proxy(ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    async with forward_proxy({"rayhead:8265": port_of(ray.address)}) as (port, asked):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        jobs = RayJobs()
        await jobs.connect("http://rayhead:8265", RAY_TOKEN)
        assert await jobs.version() == "2.60.0"
        assert asked == ["GET http://rayhead:8265/api/version HTTP/1.1"]
        await jobs.close()
