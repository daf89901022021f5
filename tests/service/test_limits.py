"""Rates and sizes: what the limit is, and when to go on."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_harness import Running, add_token, client, points, until
from test_reports import Reporter

from service import http_limits
from service.rate import BURST_S, RateLimiter
from service.telemetry.counters import DENIED


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.integers(1, 1000),
    pauses=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=300),
)
def test_never_more_than_the_burst_and_the_rate(rate: int, pauses: list[float]) -> None:
    """In any span of t seconds a key gets at most rate * (t + burst) requests, and waits no longer than it must."""
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause / rate
        wait = limiter.take(b"key")
        if wait == 0:
            taken.append(clock.now)
            continue
        assert wait <= 1 / rate + 1e-6
        clock.now += wait
        assert limiter.take(b"key") == 0, "after the time it was told to wait"
        taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= rate * (taken[last] - taken[first] + BURST_S) + 1 + 1e-6


def test_keys_do_not_touch_each_other_and_idle_ones_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(10, clock=clock, remember=100)
    while limiter.take(b"busy") == 0:
        pass
    assert limiter.take(b"other") == 0
    for k in range(1000):
        assert limiter.take(str(k).encode()) == 0
        clock.now += 0.001
    clock.now += BURST_S + 1
    for k in range(300):
        limiter.take(b"new %d" % k)
        clock.now += 1
    assert len(limiter._full_at) <= 110
    assert limiter.take(b"busy") == 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def slow(service: Running, clock: Clock) -> AsyncIterator[Running]:
    """The service, taking 5 requests and 10 reports a second."""
    context = service.context
    before = context.request_rates, context.report_rates
    context.request_rates, context.report_rates = RateLimiter(5, clock=clock), RateLimiter(10, clock=clock)
    yield service
    context.request_rates, context.report_rates = before


def denied() -> float:
    return DENIED.labels(429, "rate")._value.get()


async def test_one_token_too_fast_is_429_and_others_are_not(slow: Running, clock: Clock) -> None:
    other = await add_token(slow.context.database, "viewer")
    before = denied()
    answers = await asyncio.gather(*(slow.http.get("/api/v1/session") for _ in range(40)))
    refused = [a for a in answers if a.status_code == 429]
    assert {a.status_code for a in answers} == {200, 429}
    assert denied() - before == len(refused) == 30
    assert refused[0].headers["content-type"] == "application/problem+json"
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["detail"] == "This access token may make 5 requests a second; go on in 1 s."
    async with client(slow.url, other) as http:
        assert (await http.get("/api/v1/session")).status_code == 200
    clock.now += 1.0  # what Retry-After says
    assert (await slow.http.get("/api/v1/session")).status_code == 200


async def test_wrong_tokens_and_logins_are_counted_too(slow: Running) -> None:
    async with client(slow.url, "adadim_wrong") as http:
        wrong = await asyncio.gather(*(http.get("/api/v1/session") for _ in range(20)))
        logins = await asyncio.gather(
            *(http.post("/api/v1/session", json={"token": "adadim_other"}) for _ in range(20))
        )
    assert {a.status_code for a in wrong} == {401, 429}
    assert {a.status_code for a in logins} == {401, 429}


async def test_reports_have_their_own_limit(slow: Running) -> None:
    reporter = await Reporter.open(slow)
    async with client(slow.url, reporter.token) as http:
        path = f"/api/v1/attempts/{reporter.attempt_id}/reports"
        answers = await asyncio.gather(*(http.post(path, json={}) for _ in range(40)))
    assert {a.status_code for a in answers} == {200, 429}
    assert sum(a.status_code == 200 for a in answers) == 20
    (detail,) = {a.json()["detail"] for a in answers if a.status_code == 429}
    assert detail == "This attempt's token may make 10 requests a second; go on in 1 s."


async def test_a_sweep_has_at_most_as_many_trials_as_the_service_takes(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = service.context.settings.model_copy(update={"max_trials": 3})
    monkeypatch.setattr(service.context, "settings", bounded)

    def spec(trials: int) -> str:
        return f"{{name: a, search: {{trials: {trials}, space: {{training.lr: {{uniform: [0.1, 0.2]}}}}}}}}"

    for options in ({}, {"dry_run": "true"}):
        assert (await service.http.post("/api/v1/experiments", content=spec(3), params=options)).is_success
        refused = await service.http.post("/api/v1/experiments", content=spec(4), params=options)
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert error == {"pointer": "/search", "detail": "4 trials; this service takes at most 3"}


async def silent(service: Running, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that sends no whole request."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(said)
    return reader, writer


async def test_silent_connections_keep_nobody_out(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "MAX_AWAITED_HEADS", 5)
    monkeypatch.setattr(http_limits, "GRACE_S", 0.0)
    connections = [await silent(service) for _ in range(12)]
    async with client(service.url, service.token) as http:
        assert (await http.get("/api/v1/session")).status_code == 200
    async with asyncio.timeout(30):  # those that are silent longest are closed
        for reader, _ in connections[:6]:
            assert await reader.read() == b""
    for _, writer in connections:
        writer.close()


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


async def test_many_who_connect_at_once_are_all_answered(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "MAX_AWAITED_HEADS", 5)
    monkeypatch.setattr(http_limits, "GRACE_S", 60.0)
    connections = [await silent(service) for _ in range(12)]
    for _, writer in connections:
        writer.write(GET + b"\r\n")
    async with asyncio.timeout(30):
        for reader, writer in connections:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()


@pytest.mark.parametrize("said", [b"", GET, GET + b"\r\nGET"])
async def test_a_head_that_does_not_come_ends_the_connection(
    service: Running, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """A first request, the rest of one, and the rest of a second."""
    monkeypatch.setattr(http_limits, "HEAD_S", 2.0)
    reader, writer = await silent(service, said)
    async with asyncio.timeout(20):
        answered = await reader.read()
    assert answered.startswith(b"HTTP/1.1 200") == said.endswith(b"GET")
    writer.close()


async def test_reports_do_not_wait_for_connections_that_others_hold(service: Running) -> None:
    """All that users' requests can hold are held: a worker's first report, its points and its outcome are taken."""
    reporter = await Reporter.open(service)
    database, released = service.context.database, asyncio.Event()
    holding = 0

    async def hold(connection: AbstractAsyncContextManager[object]) -> None:
        nonlocal holding
        async with connection:
            holding += 1
            await released.wait()

    held = [hold(database.transaction()) for _ in range(30)] + [hold(database.autocommit()) for _ in range(10)]
    holders = [asyncio.create_task(one) for one in held]
    try:
        await until(lambda: holding == 19, "every connection to be held that may be")
        async with asyncio.timeout(25):
            await reporter.accepted(series=[points(0, [1], [1.0])])
            await reporter.accepted(series=[points(0, [2], [2.0])])
            await reporter.accepted(outcome={"state": "succeeded"})
    finally:
        released.set()
        await asyncio.gather(*holders)
    assert (await reporter.experiment())["state"] == "succeeded"


async def test_a_client_that_leaves_amid_its_body_is_no_bug_of_the_service(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Each used to be answered 500 and to put a long trace into the log."""
    caplog.set_level(logging.INFO)
    host, port = service.url.removeprefix("http://").split(":")
    for path in ("experiments", "experiments/import"):
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        told = f"POST /api/v1/{path} 400"
        await until(lambda told=told: any(record.getMessage() == told for record in caplog.records), told)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
