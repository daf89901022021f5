"""What a hostile or broken client may send: every item is refused with a 4xx that says why, and changes nothing."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from service_harness import Running, add_token, client
from sqlalchemy import func, select
from test_reports import Reporter

from adadim_core.spec import MAX_SPEC_BYTES
from service.attempts.endpoints import MAX_REPORT_BYTES
from service.database.tables import Experiment, Token
from service.http_limits import MAX_BODY_BYTES, MAX_HEAD_BYTES

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 30_000 + b"]" * 30_000
HUGE = b"9" * 5_000


async def refused(answer: Any, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-evil" not in answer.headers
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    return problem


SPECS: list[bytes] = [
    b"name: \xff\xfe",
    "name: a".encode("utf-16"),
    "name: a".encode("utf-32"),
    b'{"name": "\x00"}',
    b'{"name": "a\\u0000"}',
    b'{"name": "a", "description": "\\ud800"}',
    b'{"name": "a\\r\\nX-Evil: 1"}',
    DEEP,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"{name: a, retries: " + HUGE + b"}",
    b"{name: a, training: {epochs: 1e400}}",
    b"{name: a, training: {seed: -1" + HUGE + b"}}",
    *(
        f"{{name: a, data: {{dataset: npz, path: {json.dumps(path)}}}}}".encode()
        for path in ("../../etc/shadow", "/data/../etc/shadow", "..", "a/..\\..\\b", "data/\0/etc", "~root/../x")
    ),
]


@pytest.mark.parametrize("content_type", ["application/yaml", "application/json"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: repr(spec[:24]))
async def test_specs(service: Running, spec: bytes, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    for options in ({}, {"dry_run": "true"}):
        await refused(
            await service.http.post("/api/v1/experiments", content=spec, headers=headers, params=options), 422
        )
    async with service.context.database.transaction() as session:
        assert (await session.scalars(select(func.count()).select_from(Experiment))).one() == 0


BODIES: list[bytes] = [
    b"",
    b"\xff",
    "{}".encode("utf-16"),
    b"null",
    b"[]",
    b"NaN",
    b"{",
    b"\x00",
    DEEP,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"name": "a\\u0000", "role": "viewer", "token": "\\u0000"}',
    b'{"name": "\\ud800", "role": "viewer", "token": "\\ud800"}',
    b'{"name": "a\\r\\nX-Evil: 1", "role": "viewer", "token": "a\\r\\nX-Evil: 1"}',
    b'{"name": "../a", "role": "viewer"}',
    b'{"name": "a", "role": "viewer", "expires_in_days": ' + HUGE + b"}",
    b'{"name": "a", "role": "viewer", "expires_in_days": 1e999}',
    b'{"name": "a", "role": "root"}',
    b'{"name": "a", "role": "viewer", "hash": "x"}',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:24]))
async def test_json_bodies(admin: Running, body: bytes) -> None:
    await refused(await admin.http.post("/api/v1/tokens", content=body, headers=JSON), 400, 422)
    await refused(await admin.http.post("/api/v1/session", content=body, headers=JSON), 400, 401, 422)
    async with admin.context.database.transaction() as session:
        names = set((await session.scalars(select(Token.name))).all())
    assert names == {"ada", "root"}


# An empty mapping is a heartbeat, in any encoding that JSON may have.
@pytest.mark.parametrize("body", [b for b in BODIES if b != "{}".encode("utf-16")], ids=lambda body: repr(body[:24]))
async def test_reports(service: Running, body: bytes) -> None:
    reporter = await Reporter.open(service)
    async with client(service.url, reporter.token) as http:
        path = f"/api/v1/attempts/{reporter.attempt_id}/reports"
        await refused(await http.post(path, content=body, headers=JSON), 400, 422)


@pytest.fixture
async def admin(service: Running) -> AsyncIterator[Running]:
    """The service with an admin's token."""
    token = await add_token(service.context.database, "admin", "root")
    async with client(service.url, token) as http:
        yield Running(service.url, service.app, service.context, http, token)


# -- sizes --------------------------------------------------------------------------------------------------------

SIZES = [
    ("/api/v1/experiments", MAX_SPEC_BYTES),
    ("/api/v1/experiments/1/cancel", MAX_BODY_BYTES),
    ("/api/v1/session", MAX_BODY_BYTES),
    ("/api/v1/tokens", MAX_BODY_BYTES),
    ("/api/v1/attempts/1/reports", MAX_REPORT_BYTES),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "limit"), SIZES)
async def test_bodies_that_are_too_large(admin: Running, path: str, limit: int, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(limit // 65_536 + 2):
            yield b" " * 65_536

    answer = await admin.http.post(path, content=pieces() if chunked else b" " * (limit + 1), headers=JSON)
    if chunked and path.endswith("/cancel"):  # reads no body, so that what is in it does not matter
        await refused(answer, 404)
    elif path.endswith("/reports"):
        await refused(answer, 401)  # whose token it is comes first
    else:
        assert str(limit) in (await refused(answer, 413))["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "GZIP", "identity, zstd"])
async def test_compressed_bodies(admin: Running, encoding: str) -> None:
    for path, _ in SIZES:
        answer = await admin.http.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
        problem = await refused(answer, 415)
        assert "compressed" in problem["detail"]
    plain = await admin.http.post("/api/v1/experiments", content=b"name: a", headers={"Content-Encoding": "identity"})
    assert plain.status_code == 201


# -- below HTTP's surface -----------------------------------------------------------------------------------------


async def raw(service: Running, request: bytes) -> bytes:
    """All that comes back for some bytes; empty if the connection is closed without a word."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            await writer.drain()
            while not answer.endswith(b"}") and (piece := await reader.read(65_536)):
                answer += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


HEADS: list[bytes] = [
    b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n X-Evil: 1\r\n\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \x00\r\n\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\nX-Evil: 1\r\n\r\n",
    b"GET /api/v1/session HTTP/1.1\r\nHost: a\r\nCookie: adadim_session=\xff\xfe\r\n\r\n",
    b"POST /api/v1/experiments HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/experiments HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nname: a",
    b"POST /api/v1/experiments HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/v1/experiments HTTP/1.1\r\nHost: a\r\nContent-Length: " + HUGE + b"\r\n\r\n",
    b"GET /api/v1/experiments\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/../settings.py HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/%2e%2e/settings.py HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static//etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /api/v1/experiments/1%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * (MAX_HEAD_BYTES + 300_000) + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * (MAX_HEAD_BYTES + 300_000),
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 60_000,
    b"\x16\x03\x01\x02\x00\x01\x00",
]


@pytest.mark.parametrize("request_", HEADS, ids=lambda head: repr(head[:60]))
async def test_heads(service: Running, request_: bytes) -> None:
    answer = await raw(service, request_)
    status = answer.split(b" ")[1] if answer else b"closed"
    assert status.startswith(b"4") or status == b"closed", answer[:300]
    assert b"\r\nx-evil" not in answer.lower()
    assert b"root:" not in answer
    assert (await service.http.get("/healthz")).status_code == 200


async def test_an_endless_head_is_cut_off_and_said(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            writer.write(b"X-A: " + b"a" * 8_000 + b"\r\n")
            await writer.drain()
            sent += 8_007
            assert sent < 64 * MAX_HEAD_BYTES, "the service goes on reading"
    writer.close()


QUERIES = ["/experiments?limit=" + "9" * 4000, "/experiments?limit=1e3", "/experiments?cursor=%00",
           "/experiments/1/metrics?max_points=99999999999999999999", "/experiments/1/metrics?metrics=%00",
           "/experiments/1/metrics?metrics=" + "a," * 5000, "/experiments/1/events?after=-1",
           "/experiments/" + "9" * 4000, "/trials/%ff", "/tokens?limit=201", "/tokens?cursor=-1"]  # fmt: skip


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path[:40])
async def test_queries(admin: Running, path: str) -> None:
    await refused(await admin.http.get(f"/api/v1{path}"), 422)
