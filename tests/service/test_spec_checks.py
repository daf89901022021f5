"""Specs are checked beside the event loop, owners by turns, within a budget; a client that leaves takes no turn."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from service_harness import Running, add_token, client, until

from service.errors import InvalidError, TooManyError
from service.experiments import service as experiments
from service.rate import BURST_S
from service.spec_checks import MAX_WAITING, SHARE, SpecChecks
from service.telemetry.counters import SPEC_CHECKS_REFUSED

SPEC = "name: test"


class Gate:
    """Checks that wait to be let through, and which of them began."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[str] = []

    def check(self, name: str) -> Callable[[], str]:
        def work() -> str:
            self.begun.append(name)
            assert self.opened.wait(30)
            return name

        return work


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


async def test_owners_take_turns(gate: Gate) -> None:
    checks = SpecChecks()
    many = [asyncio.create_task(checks.run("eve", gate.check(f"eve {n}"))) for n in range(MAX_WAITING)]
    await until(lambda: gate.begun, "the first check to begin")
    one = asyncio.create_task(checks.run("ada", gate.check("ada")))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await one == "ada"
    assert await asyncio.gather(*many) == [f"eve {n}" for n in range(MAX_WAITING)]
    assert gate.begun.index("ada") <= 2


async def test_one_owner_may_have_so_many_waiting(gate: Gate) -> None:
    checks, before = SpecChecks(), SPEC_CHECKS_REFUSED._value.get()
    many = [asyncio.create_task(checks.run("eve", gate.check("eve")))]
    await until(lambda: gate.begun, "the first check to begin")
    many += [asyncio.create_task(checks.run("eve", gate.check("eve"))) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyError, match=rf"^Too many specs: {MAX_WAITING} specs of eve wait to be checked"):
        await checks.run("eve", gate.check("one too many"))
    assert SPEC_CHECKS_REFUSED._value.get() == before + 1
    gate.opened.set()
    await asyncio.gather(*many)
    assert "one too many" not in gate.begun


async def test_an_owner_who_took_more_than_its_share_waits() -> None:
    now = 1000.0
    checks = SpecChecks(clock=lambda: now)

    def costly() -> None:
        for _ in range(200_000):
            sum(range(20))

    for _ in range(1000):
        try:
            await checks.run("eve", costly)
        except TooManyError as error:
            refused = error
            break
    assert "more than their share" in refused.detail
    assert refused.retry_after_s is not None
    await checks.run("ada", costly)
    now += refused.retry_after_s
    await checks.run("eve", costly)
    assert BURST_S * SHARE < 1


async def test_an_error_of_a_check_is_whose_check_it_is() -> None:
    checks = SpecChecks()

    def wrong() -> None:
        raise InvalidError("so")

    found = await asyncio.gather(checks.run("eve", wrong), checks.run("ada", lambda: 1), return_exceptions=True)
    assert isinstance(found[0], InvalidError)
    assert found[1] == 1


@pytest.fixture
def gated(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The service's checks of submissions wait at the gate."""
    read_spec = experiments.read_spec

    def read(body: bytes, *rest: Any) -> experiments.Submission:
        gate.begun.append(body.decode())
        assert gate.opened.wait(30)
        return read_spec(body, *rest)

    monkeypatch.setattr(experiments, "read_spec", read)
    return gate


async def test_a_client_that_leaves_is_not_checked_and_others_are_answered_meanwhile(
    service: Running, gated: Gate
) -> None:
    first = asyncio.create_task(service.http.post("/api/v1/experiments", content=SPEC))
    await until(lambda: gated.begun, "the check to begin")
    checks = service.context.spec_checks
    for number in range(1, 4):
        leaves = asyncio.create_task(service.http.post("/api/v1/experiments?dry_run=true", content="name: left"))
        await until(lambda n=number: len(checks._waiting.get("ada", ())) == n, "its check to wait")
        leaves.cancel()
    assert (await service.http.get("/api/v1/session")).status_code == 200, "the event loop is free"
    waiting = [check.answer for check in checks._waiting["ada"]]
    await until(lambda: all(answer.cancelled() for answer in waiting), "the service to see that they have left")
    gated.opened.set()
    assert (await first).status_code == 201
    assert (await service.submit("name: last"))["name"] == "last"
    assert "name: left" not in gated.begun


async def test_every_way_to_submit_has_the_same_budget(service: Running, gated: Gate) -> None:
    """Who waits with as many as may wait is told so everywhere; somebody else is not."""
    gated.opened.set()
    experiment = await service.submit("{name: a, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.5]}}}}")
    gated.opened.clear()
    gated.begun.clear()
    waiting = [asyncio.create_task(service.http.post("/api/v1/experiments", content=SPEC))]
    await until(lambda: gated.begun, "the first check to begin")
    waiting += [asyncio.create_task(service.http.post("/api/v1/experiments", content=SPEC)) for _ in range(MAX_WAITING)]
    await until(lambda: len(service.context.spec_checks._waiting.get("ada", ())) == MAX_WAITING, "the queue to be full")
    path = f"/api/v1/experiments/{experiment['id']}"
    other = await add_token(service.context.database, "submitter", "bob")
    async with client(service.url, other) as http:
        elsewhere = asyncio.create_task(http.post("/api/v1/experiments", content=SPEC))
        refused = [
            await service.http.post("/api/v1/experiments?dry_run=true", content=SPEC),
            await service.http.post(f"{path}/clone", json={}),
            await service.http.post(f"{path}/extend", json={"seeds": 2}),
            await service.http.post("/api/v1/experiments/import", json={"id": "0" * 32, "spec": '{"name": "a"}'}),
        ]
        gated.opened.set()
        assert {answer.status_code for answer in await asyncio.gather(elsewhere, *waiting)} == {201}
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in refused] == [(429, "1")] * 4
    assert refused[0].json()["title"] == "Too many specs"
