"""The live stream: over real HTTP, in order, resumable, and independent of any single connection."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from service_harness import Running, client, load, queue, sse, sweep, until
from sqlalchemy import delete, func, select, text

from service.context import Context
from service.database import notify
from service.database.engine import Database
from service.database.tables import Event, Experiment, Segment
from service.events import repository as events
from service.metrics import repository as points
from service.metrics.codec import encode
from service.metrics.points import Points, series_key
from service.streams import endpoints as events_module
from service.streams import feed


async def append(context: Context, experiment_id: int, *marks: str) -> None:
    """One event with one point for each mark, which is its metric's name."""
    for mark in marks:
        async with context.database.transaction() as session:
            seq = await events.next_number(session, experiment_id)
            ids = await points.metric_ids(session, [mark], create=True)
            body = encode(Points.of(series_key(0, ids[mark]), [1], [0.5], [1000.0], [2.0]), with_series=True)
            await points.add_segment(session, experiment_id, seq, 1, body)


def marks(found: list[ServerSentEvent]) -> list[str]:
    return [json.loads(event.data)["series"][0]["metric"] for event in found if event.event == "points"]


async def test_a_stream_tells_what_was_and_what_comes(service: Running) -> None:
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(sse(service.http, experiment_id, count=4))
    await until(lambda: (notify.EVENTS, str(experiment_id)) in service.context.listener._waiters)
    await append(service.context, experiment_id, "a", "b")
    await service.http.post(f"/api/v1/experiments/{experiment_id}/cancel")
    found = await stream
    assert [event.event for event in found] == ["experiment", "points", "points", "experiment"]
    assert [event.id for event in found] == ["1", "2", "3", "4"]
    last = json.loads(found[-1].data)
    experiment = (await service.experiment(experiment_id)) | {"trial_states": None}  # for which trials are looked at
    assert last == {k: v for k, v in experiment.items() if k not in ("spec", "spec_text")}
    assert last["state"] == "cancelling"


async def test_a_live_event_waits_for_no_poll(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_POLL_S", 3600.0)
    await test_a_stream_tells_what_was_and_what_comes(service)


async def test_an_event_whose_notification_was_lost_comes_with_the_next_look(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_POLL_S", 0.05)
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(sse(service.http, experiment_id, count=1, after=1))
    await until(lambda: (notify.EVENTS, str(experiment_id)) in service.context.listener._waiters)
    service.context.listener._waiters.pop((notify.EVENTS, str(experiment_id)))
    monkeypatch.setitem(service.context.listener._waiters, (notify.EVENTS, str(experiment_id)), {asyncio.Event()})
    await append(service.context, experiment_id, "a")
    assert marks(await stream) == ["a"]


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_resumed_stream_misses_nothing_and_repeats_nothing(service: Running, by_header: bool) -> None:
    experiment_id = (await service.submit())["id"]
    wanted = [str(n) for n in range(60)]
    writer = asyncio.create_task(append(service.context, experiment_id, *wanted))
    seen: list[ServerSentEvent] = []
    last = 1
    while len(seen) < len(wanted):
        options = {"resume": last, "after": 0} if by_header else {"after": last}  # the header counts
        seen += await sse(
            service.http, experiment_id, count=7 if len(seen) < 56 else len(wanted) - len(seen), **options
        )
        last = int(seen[-1].id)
    await writer
    assert marks(seen) == wanted
    assert [int(event.id) for event in seen] == list(range(2, 62))


async def test_more_events_than_fit_one_batch_all_come(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_BATCH", 10)
    monkeypatch.setattr(feed, "_POLL_S", 3600.0)
    experiment_id = (await service.submit())["id"]
    wanted = [str(n) for n in range(35)]
    await append(service.context, experiment_id, *wanted)
    assert marks(await sse(service.http, experiment_id, count=36)) == wanted


async def test_two_writers_at_once_keep_the_order(service: Running) -> None:
    """A reader who has seen event n never finds a smaller one later, whoever commits first."""
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(sse(service.http, experiment_id, count=81))
    await asyncio.gather(
        *(append(service.context, experiment_id, *(f"{writer}-{n}" for n in range(20))) for writer in range(4))
    )
    found = await stream
    assert [int(event.id) for event in found] == list(range(1, 82))
    for writer in range(4):
        assert [mark for mark in marks(found) if mark.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(20)]


async def append_state(context: Context, experiment_id: int, mark: str) -> None:
    async with context.database.transaction() as session:
        await events.append(session, experiment_id, "experiment", {"mark": mark})


async def test_a_slow_writer_holds_back_the_events_after_its_own(context: Context) -> None:
    experiment_id = await queue(context)
    async with context.database.transaction() as slow:
        first = await events.append(slow, experiment_id, "experiment", {"mark": "slow"})
        fast = asyncio.create_task(append_state(context, experiment_id, "fast"))
        await asyncio.sleep(0.1)
        assert not fast.done()
        async with context.database.transaction() as session:
            assert [e.kind for e in await events.after(session, experiment_id, 0, 10)] == ["experiment"]
    await fast
    async with context.database.transaction() as session:
        found = await events.after(session, experiment_id, first - 1, 10)
    assert [(e.seq, e.payload["mark"]) for e in found] == [(first, "slow"), (first + 1, "fast")]


async def test_a_transaction_that_fails_leaves_no_gap(context: Context) -> None:
    experiment_id = await queue(context)
    async with context.database.transaction() as session:
        await events.append(session, experiment_id, "experiment", {})
        await session.rollback()
    await append(context, experiment_id, "a")
    async with context.database.transaction() as session:
        assert (await session.scalars(select(Event.seq))).all() == [1]
        assert (await session.scalars(select(Segment.seq))).all() == [2]
    assert (await load(context, experiment_id)).seq == 2


async def test_the_stream_goes_on_when_the_notification_connection_is_killed(
    service: Running, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_POLL_S", 3600.0)
    monkeypatch.setattr(notify, "_RECONNECT_S", 0.05)
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(sse(service.http, experiment_id, count=3, after=1))
    await until(lambda: (notify.EVENTS, str(experiment_id)) in service.context.listener._waiters)
    name = service.context.database.address.database
    # It says and asks nothing else.
    listening = "FROM pg_stat_activity WHERE datname = :name AND (query LIKE 'LISTEN %' OR query = 'SELECT 1')"
    async with Database(postgres).connect() as admin:

        async def back() -> bool:
            found = await admin.execute(text(f"SELECT count(*) {listening}"), {"name": name})
            await admin.rollback()
            return bool(found.scalar_one())

        await until(back, "the listener")
        killed = await admin.execute(text(f"SELECT count(pg_terminate_backend(pid)) {listening}"), {"name": name})
        assert killed.scalar_one() == 1
        # while nobody listens
        await append(service.context, experiment_id, "meanwhile")
        await until(back)
    await append(service.context, experiment_id, "after", "later")
    assert marks(await stream) == ["meanwhile", "after", "later"]


async def test_connections_end_after_a_while_and_say_so(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_LIFE_S", 0.1)
    monkeypatch.setattr(events_module, "_PING_S", 0.01)
    experiment_id = (await service.submit())["id"]
    async with asyncio.timeout(60):
        response = await service.http.get(f"/api/v1/experiments/{experiment_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.text.endswith("event: reconnect\ndata: {}\n\n")
    await until(lambda: not service.context.listener._waiters)


async def test_a_silent_connection_is_pinged(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_PING_S", 0.01)
    experiment_id = (await service.submit())["id"]
    path = f"/api/v1/experiments/{experiment_id}/events"
    async with asyncio.timeout(60), service.http.stream("GET", path) as response:
        async for line in response.aiter_lines():
            if line == ": ping":
                return
    pytest.fail("the stream ended and was not pinged")


async def test_a_client_that_leaves_is_forgotten(service: Running) -> None:
    experiment_id = (await service.submit())["id"]
    await sse(service.http, experiment_id, count=1)
    await until(lambda: not service.context.listener._waiters)


async def test_the_stream_of_a_deleted_experiment_ends(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_POLL_S", 0.02)
    monkeypatch.setattr(events_module, "_PING_S", 0.01)
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(service.http.get(f"/api/v1/experiments/{experiment_id}/events"))
    await until(lambda: (notify.EVENTS, str(experiment_id)) in service.context.listener._waiters)
    async with service.context.database.transaction() as session:
        await session.execute(delete(Experiment))
    async with asyncio.timeout(60):
        await stream


@pytest.mark.parametrize("last", ["-1", "x", "9" * 19, "1,2"])
async def test_a_place_that_cannot_be_is_422(service: Running, last: str) -> None:
    await service.submit()
    response = await service.http.get("/api/v1/experiments/1/events", headers={"Last-Event-ID": last})
    assert response.status_code == 422


async def test_trial_events_carry_the_trial(context: Context, service: Running) -> None:
    experiment_id = (await service.submit(sweep(2).model_dump_json()))["id"]
    async with service.context.database.transaction() as session:
        await events.append(session, experiment_id, "trial", {"number": 1, "state": "running"})
    (event,) = await sse(service.http, experiment_id, count=1, after=1)
    trials = (await service.http.get(f"/api/v1/experiments/{experiment_id}/trials")).json()["items"]
    assert (event.event, json.loads(event.data)) == ("trial", trials[1])


@pytest.fixture
async def many(service: Running) -> AsyncIterator[list[asyncio.Task[list[ServerSentEvent]]]]:
    experiment_id = (await service.submit())["id"]
    async with client(service.url, service.token) as http:
        yield [asyncio.create_task(sse(http, experiment_id, count=6)) for _ in range(40)]


@pytest.mark.slow
async def test_forty_readers_need_no_forty_connections_to_the_database(
    service: Running, many: list[asyncio.Task[list[ServerSentEvent]]]
) -> None:
    await append(service.context, 1, *"abcde")
    streams = await asyncio.gather(*many)
    assert all(marks(found) == list("abcde") for found in streams)
    async with service.context.database.transaction() as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert (await session.execute(query)).scalar_one() <= 22
        assert (await session.scalars(select(func.count()).select_from(Segment))).one() == 5


async def test_a_filter_leaves_other_metrics_out_and_keeps_the_place(service: Running) -> None:
    experiment_id = (await service.submit())["id"]
    await append(service.context, experiment_id, "h_r", "loss", "h_r")
    path = f"/api/v1/experiments/{experiment_id}/events?metrics=h_r&after=1"
    async with asyncio.timeout(60), aconnect_sse(service.http, "GET", path) as source:
        found = []
        async for event in source.aiter_sse():
            if event.data:
                found.append((event.id, [s["metric"] for s in json.loads(event.data)["series"]]))
            if len(found) == 3:
                break
    assert found == [("2", ["h_r"]), ("3", []), ("4", ["h_r"])]


async def test_who_was_away_too_long_is_told_to_read_anew_and_misses_no_later_event(service: Running) -> None:
    experiment_id = (await service.submit())["id"]
    await append(service.context, experiment_id, "a", "b", "c")
    async with service.context.database.transaction() as session:
        await points.mark_merged(session, experiment_id, [2, 3])
    async with service.context.database.transaction() as session:
        assert await points.drop_merged(session, 0.0, 100) == 2
    found = await sse(service.http, experiment_id, count=3)
    assert [(event.event, event.id or None) for event in found] == [
        ("reset", None),
        ("experiment", "1"),
        ("points", "4"),
    ]
    assert json.loads(found[0].data) == {"seq": 3}
    assert [event.event for event in await sse(service.http, experiment_id, count=1, after=3)] == ["points"]


async def followers(service: Running, experiment_id: int, number: int) -> None:
    feeds = service.feeds._feeds
    await until(lambda: experiment_id in feeds and feeds[experiment_id].followers == number)


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places from which the database is read."""
    places: list[int] = []
    original = feed.read

    async def counted(database: Database, experiment_id: int, seq: int) -> feed.Reading:
        places.append(seq)
        return await original(database, experiment_id, seq)

    monkeypatch.setattr(feed, "read", counted)
    return places


async def test_followers_share_one_reading_and_one_encoding(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_POLL_S", 3600.0)
    experiment_id = (await service.submit())["id"]
    encoded = []
    original = feed.points_frame
    monkeypatch.setattr(feed, "points_frame", lambda *args: encoded.append(args[0]) or original(*args))
    places = count_readings(monkeypatch)
    streams = [asyncio.create_task(sse(service.http, experiment_id, count=5, after=1)) for _ in range(10)]
    await followers(service, experiment_id, 10)
    await append(service.context, experiment_id, *"abcde")
    assert all(marks(found) == list("abcde") for found in await asyncio.gather(*streams))
    assert sorted(encoded) == [2, 3, 4, 5, 6]
    assert len(places) <= 7  # one at first, and at most one for each event with one that finds nothing more
    await until(lambda: not service.feeds._feeds)


async def test_a_follower_that_is_far_back_holds_up_nobody_and_takes_nothing_from_the_others(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_BATCH", 5)
    experiment_id = (await service.submit())["id"]
    old = [f"a{n}" for n in range(30)]
    await append(service.context, experiment_id, *old)
    original, go_on = feed.read, asyncio.Event()

    async def slow(database: Database, experiment: int, seq: int) -> feed.Reading:
        if seq < 31:
            await go_on.wait()
        return await original(database, experiment, seq)

    monkeypatch.setattr(feed, "read", slow)
    back = asyncio.create_task(sse(service.http, experiment_id, count=35, after=1))
    await followers(service, experiment_id, 1)
    live = [asyncio.create_task(sse(service.http, experiment_id, count=5, after=31)) for _ in range(5)]
    await followers(service, experiment_id, 6)
    await append(service.context, experiment_id, *"abcde")
    assert all(marks(found) == list("abcde") for found in await asyncio.gather(*live))
    assert not back.done()
    go_on.set()
    assert marks(await back) == [*old, *"abcde"]


async def test_a_reading_is_bounded_in_points_and_written_as_text_only_when_sent(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_BATCH_POINTS", 3)
    experiment_id = (await service.submit())["id"]
    await append(service.context, experiment_id, *"abcdefg")
    found = await feed.read(service.context.database, experiment_id, 1)
    assert ([frame.seq for frame in found.frames], found.end, found.more) == ([2, 3, 4], 4, True)
    assert all(not frame._texts for frame in found.frames)
    assert marks(await sse(service.http, experiment_id, count=7, after=1)) == list("abcdefg")


async def test_a_reading_that_fails_ends_no_stream(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_id = (await service.submit())["id"]
    stream = asyncio.create_task(sse(service.http, experiment_id, count=1, after=1))
    await followers(service, experiment_id, 1)
    original, failures = feed.read, iter([ConnectionResetError("away"), KeyError("a bug")])

    async def failing(*args: int) -> feed.Reading:
        for error in failures:
            raise error
        return await original(*args)

    monkeypatch.setattr(feed, "read", failing)
    monkeypatch.setattr(feed, "_POLL_S", 0.02)
    await append(service.context, experiment_id, "a")
    assert marks(await stream) == ["a"]


async def test_what_is_kept_for_followers_is_bounded(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_KEPT_BYTES", 2000)
    monkeypatch.setattr(feed, "_BATCH", 20)
    experiment_id = (await service.submit())["id"]
    wanted = [f"m{n}" for n in range(60)]
    with service.feeds.follow(experiment_id, 1) as kept:
        stream = asyncio.create_task(sse(service.http, experiment_id, count=60, after=1))
        await append(service.context, experiment_id, *wanted)
        assert marks(await stream) == wanted
        await until(lambda: kept._end == 61)
        assert len(kept._frames) <= 20
        assert kept.kept(1) is None  # from so far back everybody reads for themselves
        kept._keep(feed.Reading(feed.deque(), 61))
        assert sum(frame.size for frame in kept._frames) <= 2000


async def test_a_reader_that_takes_nothing_is_let_go(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_STALL_S", 0.3)
    experiment_id = (await service.submit())["id"]
    async with service.context.database.transaction() as session:
        ids = await points.metric_ids(session, ["loss"], create=True)
        steps = list(range(200_000))  # far more than sockets hold
        body = encode(Points.of(series_key(0, ids["loss"]), steps, steps, steps, steps), with_series=True)
        for _ in range(2):
            seq = await events.next_number(session, experiment_id)
            await points.add_segment(session, experiment_id, seq, len(steps), body)
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    request = (
        f"GET /api/v1/experiments/{experiment_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}"
    )
    writer.write(f"{request}\r\n\r\n".encode())
    await until(lambda: service.feeds._feeds)
    await until(lambda: not service.feeds._feeds, "the reader to be let go")
    writer.transport.abort()
