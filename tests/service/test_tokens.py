"""Tokens of people: made once, listed without their value, over at once when they expire or are revoked."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from service_harness import Running, add_token, client
from sqlalchemy import select, update
from test_command_line import Adadim, adadim, refused

from service.database.tables import Token
from service.secret import hash_token

__all__ = ["adadim"]
PATH = "/api/v1/tokens"


@pytest.fixture
async def admin_token(service: Running) -> str:
    return await add_token(service.context.database, "admin", "root")


async def test_a_token_is_shown_once_and_kept_as_a_hash(service: Running, admin_token: str) -> None:
    async with client(service.url, admin_token) as http:
        made = await http.post(PATH, json={"name": "carol@lab.org", "role": "submitter", "expires_in_days": 7})
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        token = made.json()
        listed = (await http.get(PATH)).json()["items"]
    assert [t["name"] for t in listed] == ["carol@lab.org", "root", "ada"]
    assert token["token"] not in str(listed)
    assert listed[0] == {name: value for name, value in token.items() if name != "token"}
    life = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < life <= timedelta(days=7)
    async with service.context.database.transaction() as session:
        row = await session.get_one(Token, token["id"])
    assert row.hash == hash_token(token["token"])
    assert token["token"] not in repr(vars(row))
    async with client(service.url, token["token"]) as http:
        assert (await http.get("/api/v1/session")).json() == {"name": "carol@lab.org", "role": "submitter"}
        assert (await http.post("/api/v1/experiments", content="name: a")).json()["owner"] == "carol@lab.org"


async def test_without_a_word_a_token_lives_ninety_days_and_with_null_for_ever(
    service: Running, admin_token: str
) -> None:
    async with client(service.url, admin_token) as http:
        usual = (await http.post(PATH, json={"name": "a", "role": "viewer"})).json()
        endless = (await http.post(PATH, json={"name": "a", "role": "viewer", "expires_in_days": None})).json()
    assert (datetime.fromisoformat(usual["expires_at"]) - datetime.now(UTC)).days == 89
    assert endless["expires_at"] is None


async def test_pages_hold_every_token_once(service: Running, admin_token: str) -> None:
    async with client(service.url, admin_token) as http:
        for k in range(5):
            await http.post(PATH, json={"name": f"n{k}", "role": "viewer"})
        first = (await http.get(PATH, params={"limit": 4})).json()
        second = (await http.get(PATH, params={"limit": 4, "cursor": first["next_cursor"]})).json()
    names = [t["name"] for t in first["items"] + second["items"]]
    assert names == ["n4", "n3", "n2", "n1", "n0", "root", "ada"]
    assert second["next_cursor"] is None


async def test_revoking_ends_the_token_and_its_sessions_and_nothing_else(service: Running, admin_token: str) -> None:
    others = await add_token(service.context.database, "submitter", "ada")
    async with client(service.url, admin_token) as admin, client(service.url, None) as browser:
        assert (await browser.post("/api/v1/session", json={"token": service.token})).status_code == 204
        assert (await browser.get("/api/v1/session")).status_code == 200
        listed = (await admin.get(PATH)).json()["items"]
        assert len(listed) == 3, "a browser session is no token of a person"
        mine = min(t["id"] for t in listed)
        assert (await admin.delete(f"{PATH}/{mine}")).status_code == 204
        assert (await admin.delete(f"{PATH}/{mine}")).status_code == 404
        for http in (service.http, browser):
            answer = await http.get("/api/v1/session")
            assert answer.status_code == 401
            assert "revoked" in answer.json()["detail"]
        assert (await browser.post("/api/v1/session", json={"token": service.token})).status_code == 401
        assert mine not in [t["id"] for t in (await admin.get(PATH)).json()["items"]]
    async with client(service.url, others) as http:
        assert (await http.get("/api/v1/session")).status_code == 200


async def test_a_session_opened_while_its_token_is_revoked_is_over_too(service: Running, admin_token: str) -> None:
    """Whichever commits first: what counts is asked at every request."""
    async with client(service.url, None) as browser, service.context.database.transaction() as session:
        await browser.post("/api/v1/session", json={"token": service.token})
        await session.execute(
            update(Token).where(Token.hash == hash_token(service.token)).values(revoked_at=datetime.now(UTC))
        )
        await session.commit()
        assert (await browser.get("/api/v1/session")).status_code == 401


async def test_a_session_ends_when_its_token_expires(service: Running) -> None:
    async with client(service.url, None) as browser:
        await browser.post("/api/v1/session", json={"token": service.token})
        async with service.context.database.transaction() as session:
            expired = datetime.now(UTC) - timedelta(seconds=1)
            await session.execute(
                update(Token).where(Token.hash == hash_token(service.token)).values(expires_at=expired)
            )
        assert (await browser.get("/api/v1/session")).status_code == 401


async def test_the_last_use_is_written_down_but_not_at_every_request(service: Running, admin_token: str) -> None:
    async def used() -> datetime | None:
        async with service.context.database.transaction() as session:
            query = select(Token.last_used_at).where(Token.hash == hash_token(service.token))
            return (await session.scalars(query)).one()

    assert await used() is None
    await asyncio.gather(*(service.http.get("/api/v1/session") for _ in range(10)))
    first = await used()
    assert first is not None
    await service.http.get("/api/v1/session")
    assert await used() == first
    async with service.context.database.transaction() as session:
        await session.execute(update(Token).values(last_used_at=first - timedelta(minutes=11)))
    async with client(service.url, None) as browser:  # by way of a session it is the token's use
        await browser.post("/api/v1/session", json={"token": service.token})
    later = await used()
    assert later is not None
    assert later > first


# -- adadim token -------------------------------------------------------------------------------------------------


async def test_the_command_makes_lists_and_revokes(service: Running, admin_token: str, adadim: Adadim) -> None:
    admin = {"ADADIM_TOKEN": admin_token}
    made = await adadim("token", "create", "carol", "--role", "viewer", "--days", "3", env=admin)
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert "\n" not in token, "the value stands alone, for scripts"
    assert "valid until" in made.stderr
    async with client(service.url, token) as http:
        assert (await http.get("/api/v1/session")).json() == {"name": "carol", "role": "viewer"}
    listed = await adadim("token", "list", env=admin)
    assert token not in listed.output
    (line,) = (line for line in listed.output.splitlines() if "carol" in line)
    assert "viewer" in line
    revoked = await adadim("token", "revoke", line.split()[0], env=admin)
    assert (revoked.exit_code, revoked.output.strip()) == (0, f"Token {line.split()[0]} is revoked.")
    async with client(service.url, token) as http:
        assert (await http.get("/api/v1/session")).status_code == 401
    endless = await adadim("token", "create", "dave", "--never-expires", env=admin)
    assert "until it is revoked" in endless.stderr
    assert "never" in (await adadim("token", "list", env=admin)).output


async def test_the_command_says_what_is_wrong(service: Running, admin_token: str, adadim: Adadim) -> None:
    refused(await adadim("token", "list"), "it takes the role admin")
    admin = {"ADADIM_TOKEN": admin_token}
    refused(await adadim("token", "create", "../x", env=admin), "/name: ")
    refused(await adadim("token", "create", "x", "--role", "root", env=admin), "/role: ", "'viewer'")
    refused(await adadim("token", "revoke", "4711", env=admin), "There is no token 4711.")
