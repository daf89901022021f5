"""Large answers are packed for readers who take them so; what anyone may ask for is written and packed once."""

import asyncio
import gzip
from types import SimpleNamespace

import httpx
import pytest
from service_harness import Running
from starlette.requests import Request

from service import compression


async def _both(service: Running, path: str) -> tuple[httpx.Response, httpx.Response]:
    """An answer as it is, and packed; the bytes of the second are as they were sent."""
    plain = await service.http.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    async with service.http.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
        packed._content = b"".join([part async for part in packed.aiter_raw()])
    return plain, packed


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/experiments/1/answer",
        "/api/v1/experiments/1/trials",
        "/api/v1/experiments/1/metrics",
        "/api/v1/experiments/1/metrics/last",
        "/api/v1/experiments/1/curves",
        "/api/v1/spec/schema",
        "/openapi.json",
    ],
)
async def test_an_answer_is_packed_where_it_is_large_and_taken_so(
    service: Running, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await service.submit()
    monkeypatch.setattr(compression, "_WORTH_IT", 1)
    plain, packed = await _both(service, path)
    assert plain.status_code == packed.status_code == 200
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert "Accept-Encoding" in plain.headers["vary"]
    assert "Accept-Encoding" in packed.headers["vary"]


async def test_a_small_answer_is_not_worth_it(service: Running) -> None:
    await service.submit()
    _, answer = await _both(service, "/api/v1/experiments/1/metrics/last")
    assert "content-encoding" not in answer.headers
    answer.json()


async def test_two_are_packed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, seen = 0, []

    async def pack(*_: object) -> bytes:
        nonlocal under_way
        under_way += 1
        seen.append(under_way)
        await asyncio.sleep(0)  # the others' turn
        under_way -= 1
        return b""

    monkeypatch.setattr(compression, "asyncio", SimpleNamespace(to_thread=pack))
    request = Request({"type": "http", "headers": [(b"accept-encoding", b"gzip")]})
    await asyncio.gather(*(compression.compressed(request, bytes(32 * 1024)) for _ in range(5)))
    assert (len(seen), max(seen)) == (5, 2)


async def test_the_document_of_the_api_is_made_once(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await service.http.get("/openapi.json")

    def again() -> None:
        raise AssertionError("it is made again")

    monkeypatch.setattr(service.app, "openapi", again)
    assert (await service.http.get("/openapi.json")).content == first.content
