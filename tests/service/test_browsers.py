"""What protects people's browsers: headers of every answer, names the service goes by, what a cookie is good for."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from service_harness import Running, add_token, client, make_settings
from starlette.requests import Request
from starlette.responses import Response

from service.app import create_app
from service.auth import cookies

PAGES = ("/", "/experiments/7", "/docs")
OTHERS = ("/static/js/app.js", "/api/v1/session", "/api/v1/experiments", "/nowhere", "/openapi.json", "/readyz")


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
async def test_every_answer_is_guarded(service: Running, path: str) -> None:
    async with client(service.url, None) as http:
        answer = await http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    scripts = re.search(r"script-src ([^;]*)", policy) or re.search(r"default-src ([^;]*)", policy)
    assert scripts is not None
    assert "unsafe" not in scripts[1]
    assert ("'self'" in scripts[1]) == (path in PAGES)


async def test_errors_before_any_route_are_guarded_too(service: Running) -> None:
    async with client(service.url, None) as http:
        for answer in (
            await http.post(f"/api/v1/attempts/{2**62}/reports", json={}),
            await http.post("/api/v1/session", content="x", headers={"Content-Encoding": "gzip"}),
            await http.post("/api/v1/session", content="x" * 70_000),
            await http.get("/", headers={"Host": "evil.example"}),
        ):
            assert answer.is_client_error
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def named(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An application with a public address and more names; without database or port: nothing is asked of either."""
    settings = make_settings(tmp_path, allowed_hosts="adadim.lab.example, other.example")
    app = create_app(settings, "https://workers.example:8443/adadim")
    async with _direct(app) as http:
        yield http


def _direct(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "localhost:8080", "LocalHost", "[::1]:8080", "10.1.2.3:8080", "192.168.0.7", "service:8080",
     "adadim.lab.svc.cluster.local:8080", "adadim.lab.svc", "pc.local", "a.localhost:1", "host.docker.internal:8080",
     "workers.example:8443", "adadim.lab.example", "OTHER.example:80", "adadim.lab.example."],
)  # fmt: skip
async def test_the_names_a_service_goes_by(named: httpx.AsyncClient, host: str) -> None:
    assert (await named.get("/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080", "lab.example",
     "xadadim.lab.example", "evillocal.example", "a b", "127.0.0.1:8080@evil.example", "evil.example/..", "[::1"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/api/v1/session", "/api/v1/attempts/1/reports"])
async def test_another_name_is_misdirected(named: httpx.AsyncClient, host: str, path: str) -> None:
    """As of a page whose owner lets its name lead to this machine: the browser takes it for one of ours."""
    refused = await named.post(path, headers={"Host": host})
    assert refused.status_code == 421
    assert "ADADIM_ALLOWED_HOSTS" in refused.json()["detail"]


# -- cookies --------------------------------------------------------------------------------------------------------


def _request(host: str, *, scheme: str = "http", origin: str = "", cookie: str = "") -> Request:
    headers = {"host": host, "origin": origin, "cookie": cookie}
    raw = [(name.encode(), value.encode()) for name, value in headers.items() if value]
    return Request({"type": "http", "scheme": scheme, "path": "/", "query_string": b"", "headers": raw})


@pytest.mark.parametrize(("scheme", "origin"), [("https", ""), ("http", "https://lab.example")])
def test_over_tls_a_cookie_is_bound_to_its_host(scheme: str, origin: str) -> None:
    response = Response()
    cookies.write(_request("lab.example", scheme=scheme, origin=origin), response, "secret", seconds=9)
    name, _, rest = response.headers["set-cookie"].partition("=")
    assert name == "__Host-adadim_session"
    given = {part.strip().lower() for part in rest.split(";")}
    assert given == {"secret", "httponly", "max-age=9", "path=/", "samesite=strict", "secure"}


def test_services_on_one_machine_have_cookies_of_their_own() -> None:
    jar = []
    for port in (8080, 8081):
        response = Response()
        cookies.write(_request(f"127.0.0.1:{port}"), response, f"of-{port}", seconds=9)
        jar.append(response.headers["set-cookie"].partition(";")[0])
    for port in (8080, 8081):  # a browser sends both to each
        assert cookies.read(_request(f"127.0.0.1:{port}", cookie="; ".join(jar))) == f"of-{port}"


def test_what_another_host_planted_does_not_replace_a_session_over_tls() -> None:
    request = _request("lab.example", cookie="adadim_session=planted; __Host-adadim_session=mine")
    assert cookies.read(request) == "mine"


@contextlib.asynccontextmanager
async def _signed_in(service: Running, token: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service.url, None) as browser:
        assert (await browser.post("/api/v1/session", json={"token": token})).status_code == 204
        yield browser


async def test_a_session_is_no_token_and_a_token_no_session(service: Running) -> None:
    async with _signed_in(service, service.token) as browser, client(service.url, None) as other:
        ((name, cookie),) = browser.cookies.items()
        bearer = {"Authorization": f"Bearer {cookie}"}
        for _ in range(2):  # recognised from memory, too
            assert (await browser.get("/api/v1/session")).status_code == 200
            assert (await other.get("/api/v1/session", headers=bearer)).status_code == 401
        assert (await other.post("/api/v1/session", json={"token": cookie})).status_code == 401
        assert (await service.http.get("/api/v1/session")).status_code == 200
        assert (await other.get("/api/v1/session", headers={"Cookie": f"{name}={service.token}"})).status_code == 401


async def test_a_session_makes_no_token(service: Running) -> None:
    admin = await add_token(service.context.database, "admin", "root")
    async with _signed_in(service, admin) as browser, client(service.url, admin) as http:
        new = {"name": "mallory", "role": "admin", "expires_in_days": None}
        refused = await browser.post("/api/v1/tokens", json=new, headers={"Origin": service.url})
        assert refused.status_code == 403
        assert "adadim token create" in refused.json()["detail"]
        assert [token["name"] for token in (await http.get("/api/v1/tokens")).json()["items"]] == ["root", "ada"]
        assert (await http.post("/api/v1/tokens", json=new)).status_code == 201
