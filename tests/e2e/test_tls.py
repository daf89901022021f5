"""The TLS profile's Caddyfile, with Caddy before a real service: redirect, cookie, streams as they come."""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from service.cluster.ports import free_ports
from tests.e2e.conftest import run_service, wait_for

ROOT = Path(__file__).parents[2]
CADDYFILE = ROOT / "deploy" / "compose" / "Caddyfile"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@contextlib.contextmanager
def caddy(upstream: str, tmp_path: Path) -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """Caddy before an address; gives its ports for HTTP and HTTPS, and what trusts its certificate."""
    http, https = free_ports(2)
    config = tmp_path / "Caddyfile"
    config.write_text(CADDYFILE.read_text().replace("{\n", f"{{\n\thttp_port {http}\n\thttps_port {https}\n", 1))
    environment = {"ADADIM_DOMAIN": "localhost", "ADADIM_UPSTREAM": upstream, "XDG_DATA_HOME": str(tmp_path / "data")}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with (tmp_path / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)], env=environment, stdout=log, stderr=log
        )
    try:
        root = tmp_path / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        wait_for(lambda: root.exists() or process.poll() is not None, timeout_s=30, what="Caddy's certificate")
        assert process.poll() is None, (tmp_path / "caddy.log").read_text()
        trust = ssl.create_default_context(cafile=str(root))
        wait_for(lambda: _answers(https, trust), timeout_s=30, what="Caddy")
        yield http, https, trust
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int, trust: ssl.SSLContext) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"https://localhost:{port}/healthz", verify=trust, trust_env=False).status_code == 200
    return False


@pytest.fixture
def quiet_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of a service whose cluster never answers: what is submitted stays queued."""
    for process in run_service(tmp_path_factory, RAY_ADDRESS="http://127.0.0.1:1"):
        client = process._connect()
        assert client is not None
        yield client.url, process.token


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not here (Debian: caddy)")
def test_tls_redirects_keeps_the_cookie_secure_and_passes_streams_on(
    quiet_service: tuple[str, str], tmp_path: Path
) -> None:
    url, token = quiet_service
    with caddy(urlsplit(url).netloc, tmp_path) as (http, https, trust):
        plain = httpx.get(f"http://localhost:{http}/experiments", trust_env=False)
        assert plain.status_code in (301, 308)
        assert plain.headers["location"].startswith("https://localhost")
        base = f"https://localhost:{https}"
        with httpx.Client(base_url=base, verify=trust, trust_env=False, timeout=30) as client:
            signed_in = client.post("/api/v1/session", json={"token": token}, headers={"Origin": base})
            assert signed_in.status_code == 204, signed_in.text
            cookie = signed_in.headers["set-cookie"]
            assert {"Secure", "HttpOnly"} <= {part.strip() for part in cookie.split(";")}
            assert "max-age" in client.get("/healthz").headers["strict-transport-security"]
            headers = {"Authorization": f"Bearer {token}"}
            experiment = client.post("/api/v1/experiments", content="name: streamed", headers=headers).json()
            # Events come while the stream is open: a proxy that gathers them would keep this waiting.
            path = f"/api/v1/experiments/{experiment['id']}/events?after=0"
            with client.stream("GET", path, headers=headers) as stream:
                lines = (line.removeprefix("data:").strip() for line in stream.iter_lines() if line.startswith("data:"))
                events = (json.loads(line) for line in lines if line)
                first: Any = next(events)
                assert first
                client.post(f"/api/v1/experiments/{experiment['id']}/pause", headers=headers)
                assert any("paused" in json.dumps(event) for event in events)


def test_the_profile_mounts_that_file_and_names_the_domain() -> None:
    part = COMPOSE["services"]["caddy"]
    assert part["profiles"] == ["tls"]
    assert "./deploy/compose/Caddyfile:/etc/caddy/Caddyfile:ro" in part["volumes"]
    domain = part["environment"]["ADADIM_DOMAIN"]
    # The service answers to names that it knows only.
    assert COMPOSE["services"]["service"]["environment"]["ADADIM_ALLOWED_HOSTS"] == domain
