"""Callers remembered for a second: what is revoked is forgotten."""

from datetime import UTC, datetime, timedelta

from service_harness import Running, add_token, client

from service.auth.recognised import LIFE_S, Recognised
from service.auth.service import Principal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_caller_is_remembered_for_a_second() -> None:
    clock = Clock()
    recognised, ada = Recognised(clock), Principal(1, "ada", "viewer")
    recognised.begin()(b"ada", ada)
    assert recognised.find(b"ada") == ada
    assert recognised.find(b"bob") is None
    clock.now += LIFE_S
    assert recognised.find(b"ada") is None


def test_a_token_that_ends_meanwhile_is_not_remembered() -> None:
    recognised = Recognised(Clock())
    recognised.begin()(b"ada", Principal(1, "ada", "viewer", datetime.now(UTC) - timedelta(seconds=1)))
    assert recognised.find(b"ada") is None


def test_who_was_looked_up_before_all_was_forgotten_is_not_remembered_after() -> None:
    recognised = Recognised(Clock())
    remember = recognised.begin()
    recognised.forget_all()
    remember(b"ada", Principal(1, "ada", "viewer"))
    assert recognised.find(b"ada") is None


async def test_a_revoked_token_is_refused_by_the_next_request(service: Running) -> None:
    token = await add_token(service.context.database, "viewer", "carol")
    admin = await add_token(service.context.database, "admin", "root")
    async with client(service.url, token) as carol, client(service.url, admin) as root:
        assert (await carol.get("/api/v1/session")).status_code == 200
        tokens = (await root.get("/api/v1/tokens")).json()["items"]
        number = next(one["id"] for one in tokens if one["name"] == "carol")
        assert (await root.delete(f"/api/v1/tokens/{number}")).status_code == 204
        assert (await carol.get("/api/v1/session")).status_code == 401
