"""The two forms of a report mean the same, and nothing that is no report gets in."""

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_harness import Running, client, until
from sqlalchemy import select
from test_reports import Reporter, points

from adadim_core.spec import report_binary
from adadim_core.spec.report import Report, Series
from service.attempts import endpoints as attempts_module
from service.attempts import inbox as inbox_module
from service.attempts import room as room_module
from service.attempts.body import parse
from service.attempts.room import Room
from service.database.tables import Segment
from service.errors import ServiceError, TooManyError
from service.problems import status_of

_NAMES = ["h_r", "loss", "alpha"]
_SERIES = st.integers(1, 8).flatmap(
    lambda n: st.builds(
        Series,
        trial=st.integers(0, 2**31 - 1),
        steps=st.lists(st.integers(0, 2**62), min_size=n, max_size=n),
        epochs=st.lists(st.floats(0, 1e9, width=32), min_size=n, max_size=n),
        times=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=n, max_size=n),
        values=st.dictionaries(
            st.sampled_from(_NAMES), st.lists(st.none() | st.floats(), min_size=n, max_size=n), min_size=1
        ),
    )
)


def listed(body: bytes, kind: str) -> list[tuple[str, ...]]:
    """Every measured point."""
    ids = {name: number for number, name in enumerate(_NAMES)}
    found = []
    for one in parse(body, kind).series:
        for part in one.points(ids):
            columns = (part.series, part.step, part.epoch, part.time, part.value)
            found += [tuple(map(repr, row)) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return sorted(found)


@given(st.lists(_SERIES, max_size=3))
def test_both_forms_say_the_same(series: list[Series]) -> None:
    report = Report(series=series, trials=[], outcome=None)
    binary = listed(report_binary.encode(report), report_binary.MEDIA_TYPE)
    assert binary == listed(report.model_dump_json().encode(), "application/json; charset=utf-8")
    assert len(binary) == sum(one.point_count for one in series)


def body_of(steps: Sequence[int] = (1,), time: float = 1.0, epoch: float = 0.0) -> bytes:
    head = b'{"series": [{"trial": 0, "steps": %d, "metrics": ["h_r"]}]}' % len(steps)
    n = len(steps)
    columns = struct.pack(f"<{n}q{3 * n}d", *steps, *[epoch] * n, *[time] * n, *[5.0] * n)
    return b"ADR1" + struct.pack("<I", len(head)) + head + columns


@pytest.mark.parametrize(
    "body",
    [
        b"", b"ADR1", b"ADR2" + body_of()[4:], body_of()[:-1], body_of() + b"x", b"ADR1\xff\xff\xff\xff{}",
        body_of(steps=[-1]), body_of(steps=[2**63 - 1]), body_of(time=float("nan")), body_of(epoch=float("nan")),
        body_of(epoch=-1.0), body_of().replace(b'"h_r"', b'"H R"'), body_of().replace(b'"steps"', b'"steqs"'),
        body_of(steps=range(50_001)),
    ],
)  # fmt: skip
async def test_a_binary_report_that_is_none_is_422(service: Running, body: bytes) -> None:
    reporter = await Reporter.open(service)
    response = await post(reporter, body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert await reporter.series() == []


async def post(reporter: Reporter, body: bytes, kind: str = report_binary.MEDIA_TYPE) -> Any:
    async with client(reporter.service.url, reporter.token) as http:
        path = f"/api/v1/attempts/{reporter.attempt_id}/reports"
        return await http.post(path, content=body, headers={"Content-Type": kind})


async def test_a_binary_report_is_taken_and_other_types_are_415(service: Running) -> None:
    reporter = await Reporter.open(service)
    assert (await post(reporter, body_of([1, 2]))).status_code == 200
    assert (await reporter.series())[0]["steps"] == [1, 2]
    assert (await post(reporter, body_of(), "application/x-pickle")).status_code == 415


async def test_one_report_that_is_wrong_does_not_fail_those_committed_with_it(service: Running) -> None:
    reporter = await Reporter.open(service)
    inbox, attempt = service.inbox, reporter.attempt_id

    def delivery(trial: int, step: int) -> Any:
        return parse(Report(series=[Series(**points(trial, [step], [1.0]))]).model_dump_json().encode(), "")

    answers = await asyncio.gather(
        *(inbox.deliver(attempt, delivery(99 if step == 5 else 0, step)) for step in range(10)), return_exceptions=True
    )
    assert [isinstance(a, ServiceError) and status_of(a) for a in answers] == [False] * 5 + [422] + [False] * 4
    assert (await reporter.series())[0]["steps"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert (inbox.room, inbox._waiting, inbox._busy) == (Room(), {}, set())


async def test_reports_after_an_outcome_in_the_same_group_are_409(service: Running) -> None:
    reporter = await Reporter.open(service)
    bodies = [Report(), Report(outcome={"state": "succeeded"}), Report(series=[Series(**points(0, [1], [1.0]))])]
    deliveries = [parse(body.model_dump_json().encode(), "") for body in bodies]
    async with service.context.database.transaction() as lock:  # so that they wait together
        await lock.execute(inbox_lock(reporter.experiment_id))
        first = asyncio.create_task(service.inbox.deliver(reporter.attempt_id, deliveries[0]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(service.inbox.deliver(reporter.attempt_id, d)) for d in deliveries]
        await asyncio.sleep(0.05)
    await first
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert [isinstance(a, ServiceError) and status_of(a) for a in answers] == [False, False, 409]
    assert await reporter.series() == []


def inbox_lock(experiment_id: int) -> Any:
    from sqlalchemy import text

    return text(f"SELECT 1 FROM experiments WHERE id = {experiment_id} FOR UPDATE")


async def test_too_much_waiting_is_429_and_nothing_is_lost(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the experiment is locked reports wait, in bounded number and on one connection; then all are taken."""
    monkeypatch.setattr(room_module, "MAX_REPORTS", 20)  # one attempt may have 5
    reporter = await Reporter.open(service)
    async with service.context.database.transaction() as lock:
        await lock.execute(inbox_lock(reporter.experiment_id))
        posts = [asyncio.create_task(post(reporter, body_of([step]))) for step in range(12)]
        await until(lambda: sum(p.done() for p in posts) == 7)
        done, waiting = [p for p in posts if p.done()], [p for p in posts if not p.done()]
        assert {p.result().status_code for p in done} == {429}
        assert {p.result().headers["retry-after"] for p in done} == {"1"}
        # readers are not held up
        assert (await service.http.get(f"/api/v1/experiments/{reporter.experiment_id}")).status_code == 200
    taken = [p.result().status_code for p in (await asyncio.wait(waiting))[0]]
    assert taken == [200] * 5
    assert len((await reporter.series())[0]["steps"]) == 5
    assert service.inbox.room == Room()


async def begin_to_post(reporter: Reporter, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A report of so many bytes, in the binary form, of which only the first is sent."""
    host, port = reporter.service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /api/v1/attempts/{reporter.attempt_id}/reports HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        f"Content-Type: {report_binary.MEDIA_TYPE}\r\nAuthorization: Bearer {reporter.token}\r\n\r\n"
    )
    writer.write(head.encode() + b"A")
    return reader, writer


async def test_bodies_that_are_only_announced_take_no_room_of_others(service: Running) -> None:
    """Ten connections that announce 8 MiB each and send a byte: others' reports are taken all the same."""
    hostile, victim = await Reporter.open(service), await Reporter.open(service)
    connections = [await begin_to_post(hostile, 8 * 1024 * 1024) for _ in range(10)]
    await until(lambda: service.inbox.room.sizes[("attempt", hostile.attempt_id)] == 10)
    assert (await victim.post(series=[points(0, list(range(100)), [1.0] * 100)])).status_code == 200
    assert (await hostile.post(series=[points(0, [1], [1.0])])).status_code == 200
    for _, writer in connections:
        writer.close()
    await until(lambda: service.inbox.room == Room())


async def test_what_arrives_is_counted_for_attempt_and_owner(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "MAX_BYTES", 400_000)  # an attempt may have 100,000 of them
    reporter, inbox = await Reporter.open(service), service.inbox
    reader, writer = await begin_to_post(reporter, 1_000_000)
    writer.write(b"x" * 90_000)
    await until(lambda: inbox.room.sizes[("attempt", reporter.attempt_id)] == 90_001)
    many = [points(0, list(range(100)), [1.0] * 100) for _ in range(10)]
    assert (await reporter.post(series=many)).status_code == 429
    assert (await reporter.post()).status_code == 200
    writer.write(b"x" * 20_000)
    async with asyncio.timeout(30):
        assert b"429" in await reader.readline()
    writer.close()
    await until(lambda: inbox.room == Room())
    # who stays and does not send the rest gives the room back too
    with monkeypatch.context() as patch:
        patch.setattr(attempts_module, "_BODY_S", 0.05)
        reader, writer = await begin_to_post(reporter, 1_000_000)
        async with asyncio.timeout(30):
            assert b"408" in await reader.readline()
    await until(lambda: inbox.room == Room())
    writer.close()


def test_one_owner_cannot_have_all_of_the_room() -> None:
    room = Room()
    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(room.place(attempt, "mallory")) for attempt in range(10)]
        for place in mine[:4]:
            place.grow(8 * 1024 * 1024)
        with pytest.raises(TooManyError, match="owner"):
            mine[4].grow(1)
        assert room.sizes[("all", 0)] == 32 * 1024 * 1024
        with room.place(99, "ada") as place:
            place.grow(8 * 1024 * 1024)
    assert room == Room()


async def test_large_reports_as_json_are_refused(service: Running) -> None:
    reporter = await Reporter.open(service)
    response = await post(reporter, b" " * (2 * 1024 * 1024 + 1), "application/json")
    assert response.status_code == 413
    assert report_binary.MEDIA_TYPE in response.json()["detail"]


async def test_reports_committed_together_are_bounded_in_points(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_MAX_GROUP_POINTS", 5)
    reporter = await Reporter.open(service)
    await asyncio.gather(*(post(reporter, body_of([10 * n, 10 * n + 1])) for n in range(8)))
    async with service.context.database.transaction() as session:
        stored = (await session.scalars(select(Segment.points))).all()
    assert sum(stored) == 16
    assert max(stored) <= 4


async def test_reports_and_points_are_counted(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def counted(name: str) -> float:
        exposition = (await service.http.get("/metrics")).text
        return next(float(line.split()[1]) for line in exposition.splitlines() if line.startswith(f"{name} "))

    names = ("adadim_reports_total", "adadim_points_total", "adadim_reports_refused_total")
    before = [await counted(name) for name in names]
    reporter = await Reporter.open(service)
    await post(reporter, body_of([1, 2, 3]))
    assert (await post(reporter, body_of([1]).replace(b'"trial": 0', b'"trial": 9'))).status_code == 422
    monkeypatch.setattr(room_module, "MAX_REPORTS", 0)
    assert (await post(reporter, body_of([4]))).status_code == 429
    assert [await counted(name) for name in names] == [before[0] + 1, before[1] + 3, before[2] + 1]
    assert await counted("adadim_reports_waiting") == await counted("adadim_report_bytes_waiting") == 0
