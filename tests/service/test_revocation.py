"""A revoked token ends what it has open: streams, followed logs, exports, slow reads, at every replica."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_harness import Running, add_token, client, make_settings, parts, serving, until
from sqlalchemy import text

from adadim.client import Client, ClientError
from service.app import attach, create_app
from service.auth import repository as tokens
from service.auth.open_requests import LOOK_S, OpenRequests
from service.metrics import endpoints as metrics
from service.secret import hash_token

WITHIN_S = 1.0


@pytest.fixture
async def replica(service: Running, postgres: str, tmp_path: Path) -> AsyncIterator[str]:
    """The address of another replica on the same database."""
    async with service.context.database.connect() as connection:
        name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
    url = postgres.replace("/postgres?", f"/{name}?")
    async with parts(url, tmp_path) as context:
        app = create_app(make_settings(tmp_path), "http://127.0.0.1:1")
        attach(app, context)
        async with serving(app, lifespan=False) as address:
            yield address


def test_two_looks_fit_into_the_second_that_is_promised() -> None:
    """A request ends at the second look after its token was revoked; what a busy machine adds says nothing."""
    assert 2 * LOOK_S < WITHIN_S


async def _broken_off(http: httpx.AsyncClient, path: str, opened: asyncio.Event) -> None:
    """Read a stream until it is broken off."""
    async with http.stream("GET", path) as response:
        assert response.status_code == 200
        opened.set()
        with pytest.raises(httpx.RemoteProtocolError):  # not ended as if it were whole
            async for _ in response.aiter_bytes():
                pass


@pytest.mark.parametrize("path", ["events", "logs?follow=true"])
async def test_a_stream_ends_with_its_token_wherever_that_is_revoked(service: Running, replica: str, path: str) -> None:
    number = (await service.submit())["id"]
    path = f"/api/v1/experiments/{number}/{path}"
    async with client(service.url, await add_token(service.context.database, "admin", "root")) as admin:
        made = (await admin.post("/api/v1/tokens", json={"name": "carol", "role": "viewer"})).json()
        readers, opened = [], []
        async with contextlib.AsyncExitStack() as stack:
            for url in (service.url, replica):
                http = await stack.enter_async_context(client(url, made["token"]))
                opened.append(asyncio.Event())
                readers.append(asyncio.create_task(_broken_off(http, path, opened[-1])))
            others = await stack.enter_async_context(service.http.stream("GET", f"/api/v1/experiments/{number}/events"))
            for event in opened:
                await event.wait()
            assert (await admin.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
            await asyncio.wait_for(asyncio.gather(*readers), 60)
            await service.http.post(f"/api/v1/experiments/{number}/cancel")
            async for line in others.aiter_lines():  # another's stream goes on
                if "cancel" in line:
                    break


@pytest.mark.parametrize("reads", ["logs", "events"])
async def test_who_follows_is_told_that_the_token_does_not_hold_any_more(service: Running, reads: str) -> None:
    number = (await service.submit())["id"]
    token = await add_token(service.context.database, "viewer", "carol")

    def follow() -> None:
        with Client(service.url, token) as one:
            for _ in one.logs(number, follow=True) if reads == "logs" else one.events(number):
                pass

    reader = asyncio.create_task(asyncio.to_thread(follow))
    open_requests: OpenRequests = service.app.state.open_requests
    await until(lambda: open_requests._open, "the stream to be open")
    async with service.context.database.transaction() as session:
        await session.execute(text("UPDATE tokens SET revoked_at = now() WHERE hash = :h"), {"h": hash_token(token)})
    with pytest.raises(ClientError, match="token is not valid: it is wrong, has expired or was revoked") as refused:
        await asyncio.wait_for(reader, 30)
    assert refused.value.status == 401


async def test_a_stream_ends_with_the_browser_session_it_was_opened_in(service: Running) -> None:
    path = f"/api/v1/experiments/{(await service.submit())['id']}/events"
    async with client(service.url, None) as one, client(service.url, None) as other:
        for browser in (one, other):
            await browser.post("/api/v1/session", json={"token": service.token})
        opened, stays = asyncio.Event(), asyncio.Event()
        reader = asyncio.create_task(_broken_off(one, path, opened))
        staying = asyncio.create_task(_broken_off(other, path, stays))
        await asyncio.gather(opened.wait(), stays.wait())
        assert (await one.delete("/api/v1/session", headers={"Origin": service.url})).status_code == 204
        await asyncio.wait_for(reader, 60)
        assert not staying.done()
        staying.cancel()


async def test_a_stream_ends_when_its_token_expires(service: Running) -> None:
    path = f"/api/v1/experiments/{(await service.submit())['id']}/events"
    later, opened = datetime.now(UTC) + timedelta(hours=1), asyncio.Event()
    token = await add_token(service.context.database, "viewer", "guest", expires_at=later)
    async with client(service.url, token) as http:
        reader = asyncio.create_task(_broken_off(http, path, opened))
        await opened.wait()
        assert not reader.done()
        async with service.context.database.transaction() as session:
            await session.execute(
                text("UPDATE tokens SET expires_at = now() WHERE hash = :h"), {"h": hash_token(token)}
            )
        await asyncio.wait_for(reader, 60)


async def test_a_read_that_is_not_answered_yet_is_refused(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    number = (await service.submit())["id"]
    reading = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> None:
        reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(metrics, "compressed", slow)
    token = await add_token(service.context.database, "viewer", "carol")
    async with client(service.url, token) as http:
        request = asyncio.create_task(http.get(f"/api/v1/experiments/{number}/metrics/last"))
        await reading.wait()
        async with service.context.database.transaction() as session:
            await session.execute(
                text("UPDATE tokens SET revoked_at = now() WHERE hash = :h"), {"h": hash_token(token)}
            )
        assert (await asyncio.wait_for(request, 30)).status_code == 401


async def test_while_the_database_is_away_nothing_ends(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/api/v1/experiments/{(await service.submit())['id']}/events"
    asked = 0

    async def away(*_: Any) -> set[int]:
        nonlocal asked
        asked += 1
        raise ConnectionRefusedError

    monkeypatch.setattr(tokens, "still_valid", away)
    async with service.http.stream("GET", path) as response:
        await until(lambda: asked >= 2, "two looks")
        assert not response.is_closed
        open_requests: OpenRequests = service.app.state.open_requests
        assert len(open_requests._open) == 1
    await until(lambda: not open_requests._open, "the request to be forgotten")
