"""Places by owner: nobody takes all, those who wait get turns, and every place comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_harness import Running, add_token, client, until

from service.answers import service as answers
from service.errors import TooManyError
from service.exports import service as exports
from service.logs import driver
from service.logs import endpoints as logs
from service.metrics import endpoints as metrics
from service.shares import Shares
from service.streams import endpoints as streams
from service.telemetry.counters import PLACES_REFUSED, PLACES_TAKEN
from service.trials import endpoints as trials

KINDS: dict[str, Shares] = {
    "logs": logs.readers, "exports": exports.under_way, "reads": metrics._reads, "answers": answers._UNDER_WAY,
    "encoders": trials._downloads, "streams": streams._streams,
}  # fmt: skip


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_owner_has_more_than_a_share_and_all_no_more_than_there_are(
    places: int, each: int, steps: list[tuple[str, bool]]
) -> None:
    shares = Shares("things", places, each=each)
    taken = dict.fromkeys("abc", 0)
    for owner, take in steps:
        if take:
            room = taken[owner] < each and sum(taken.values()) < places
            with contextlib.nullcontext() if room else pytest.raises(TooManyError):
                shares.take(owner)
                taken[owner] += 1
        elif taken[owner]:
            shares.give_back(owner)
            taken[owner] -= 1
        assert shares.taken == +type(shares.taken)(taken)


async def test_whoever_asks_much_waits_behind_those_who_do_not() -> None:
    shares = Shares("things", 2, each=2, line=10)
    order: list[str] = []
    gate = asyncio.Event()

    async def work(owner: str) -> None:
        async with shares.place(owner):
            order.append(owner)
            await gate.wait()

    busy = [asyncio.create_task(work("busy")) for _ in range(12)]
    await until(lambda: len(shares._waiting) == 10)
    other = [asyncio.create_task(work(name)) for name in ("grace", "alan")]
    await until(lambda: len(shares._waiting) == 12)
    with pytest.raises(TooManyError, match="busy has 2 things under way"):
        async with shares.place("busy"):
            pass
    gate.set()
    await asyncio.gather(*busy, *other)
    assert order[:4] == ["busy", "busy", "grace", "alan"]
    assert order.count("busy") == 12
    assert not shares.taken
    assert not shares._last_turn


async def test_places_are_left_for_others_while_one_waits() -> None:
    shares = Shares("things", 4, each=2, line=10)
    async with shares.place("busy"), shares.place("busy"):
        waits = asyncio.create_task(_enter(shares, "busy"))
        await until(lambda: shares._waiting)
        async with asyncio.timeout(5), shares.place("grace"), shares.place("grace"):
            assert not waits.done()
    await waits
    assert not shares.taken


async def test_waiting_ends_in_time_or_with_its_asker_and_leaves_nothing() -> None:
    shares = Shares("things", 1, each=1, line=5, patience_s=0.01)
    async with shares.place("a"):
        with pytest.raises(TooManyError, match="1 things are under way here"):
            async with shares.place("b"):
                pass
        assert not shares._waiting
    shares = Shares("things", 1, each=1, line=5)
    for release_first in (False, True):
        shares.take("a")
        gone = asyncio.create_task(_enter(shares, "b"))
        await until(lambda: shares._waiting)
        if release_first:  # its turn comes at the very moment it leaves
            shares.give_back("a")
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if not release_first:
            shares.give_back("a")
        assert not shares.taken
        assert not shares._waiting


async def _enter(shares: Shares, owner: str) -> None:
    async with shares.place(owner):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_one_owner_never_has_all_of_a_kind(kind: str) -> None:
    shares = KINDS[kind]
    # Of answers there is one at a time, a tenth of a second each: there turns are what is shared.
    assert shares.each <= shares.places // 2 or shares.line


# -- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def grace(service: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service.url, await add_token(service.context.database, "viewer", "grace")) as http:
        yield http


@pytest.fixture
def endless_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: Any, **__: Any) -> AsyncIterator[str]:
        yield "line\n"
        await asyncio.Event().wait()

    monkeypatch.setattr(driver, "read", read)


@pytest.mark.usefixtures("endless_log")
async def test_one_viewer_cannot_hold_all_followers(service: Running, grace: httpx.AsyncClient) -> None:
    number = (await service.submit())["id"]
    url = f"/api/v1/experiments/{number}/logs?follow=true"
    before = PLACES_REFUSED.labels("logs", "owner")._value.get()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(logs.readers.each):
            answer = await stack.enter_async_context(service.http.stream("GET", url))
            assert answer.status_code == 200
        over = await service.http.get(url)
        assert (over.status_code, over.headers["retry-after"]) == (429, "10")
        assert "ada has 16 logs under way here" in over.json()["detail"]
        assert PLACES_TAKEN.labels("logs")._value.get() == 16
        assert PLACES_REFUSED.labels("logs", "owner")._value.get() == before + 1
        other = await stack.enter_async_context(grace.stream("GET", url))
        assert other.status_code == 200
    await until(lambda: not logs.readers.taken, "places of readers who have gone")


async def test_one_viewer_cannot_hold_all_readers_of_metrics(
    service: Running, grace: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = (await service.submit())["id"]
    url = f"/api/v1/experiments/{number}/metrics"
    held, gate = _held(monkeypatch)
    slow = [asyncio.create_task(service.http.get(url, params={"max_points": 999})) for _ in range(10)]
    try:
        await until(lambda: len(metrics._reads._waiting) == 8 and held() == 2)
        async with asyncio.timeout(18):
            assert (await grace.get(url)).status_code == 200
        assert held() == 2
    finally:
        gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*slow)} == {200}
    assert not metrics._reads.taken


def _held(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], int], asyncio.Event]:
    """Reads of 999 points a series take until the gate is opened; how many are at it."""
    gate, waiting = asyncio.Event(), 0
    read = metrics.reading.read

    async def slowly(session: Any, experiment: Any, rows: Any, names: Any, most: int | None, span: Any) -> Any:
        nonlocal waiting
        if most == 999:
            waiting += 1
            await gate.wait()
        return await read(session, experiment, rows, names, most, span)

    monkeypatch.setattr(metrics.reading, "read", slowly)
    return lambda: waiting, gate
