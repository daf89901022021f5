"""Logs: of drivers from Ray while their job is there, kept afterwards, followed; of trials from the storage."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service_harness import RAY_TOKEN, RayJob, RayStandIn, Running, Worker, client, until
from sqlalchemy import update

from service.cluster import jobs as jobs_module
from service.database.tables import Trial
from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import service as dispatch
from service.experiments import artefacts
from service.logs import driver as driver_module
from service.logs import endpoints as endpoints_module
from service.logs import trial as trial_module
from service.logs.text import Cleaner
from service.shares import Shares


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "_POLL_S", 0.02)
    monkeypatch.setattr(dispatcher_module, "_CLOSE_AFTER", timedelta(0))
    monkeypatch.setattr(dispatch, "CHECK_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(driver_module, "_FOLLOW_INTERVAL_S", 0.02)
    monkeypatch.setattr(jobs_module, "_PAUSE_S", 0.02)
    monkeypatch.setattr(trial_module, "_FOLLOW_INTERVAL_S", 0.02)


async def start(start_service: Callable[..., Any], ray: RayStandIn, **spec: Any) -> tuple[Running, int, RayJob]:
    service: Running = await start_service(ray)
    experiment = await service.submit()
    await until(lambda: ray.jobs)
    return service, experiment["id"], ray.only_job


async def read(service: Running, experiment_id: int, **params: Any) -> str:
    response = await service.http.get(f"/api/v1/experiments/{experiment_id}/logs", params=params)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    return response.text


@asynccontextmanager
async def following(service: Running, path: str) -> AsyncIterator[tuple[list[str], asyncio.Task[None]]]:
    """The pieces of a log as they come."""
    pieces: list[str] = []

    async def follow() -> None:
        async with service.http.stream("GET", f"/api/v1/{path}/logs", params={"follow": True}) as response:
            assert response.status_code == 200
            async for piece in response.aiter_text():
                pieces.append(piece)  # noqa: PERF401 - seen while it grows

    reader = asyncio.create_task(follow())
    try:
        yield pieces, reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def is_closed(service: Running, experiment_id: int) -> bool:
    from service_harness import last_attempt

    attempt = await last_attempt(service.context, experiment_id)
    return attempt is not None and attempt.closed_at is not None


async def end(service: Running, ray: RayStandIn, experiment_id: int, job: RayJob) -> None:
    await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
    ray.end(job, "SUCCEEDED")
    await until(lambda: is_closed(service, experiment_id), "the log to be kept")


async def test_the_log_is_live_and_is_kept_when_ray_has_forgotten_it(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    assert await read(service, experiment_id) == ""
    job.log = "epoch 1\n\x1b[36mÄ\x1b[0m\n"
    assert await read(service, experiment_id) == "epoch 1\nÄ\n"
    job.log += "a\0b\n"
    await end(service, ray, experiment_id, job)
    ray.jobs.clear()
    ray.go_away()
    assert await read(service, experiment_id) == "epoch 1\nÄ\nab\n"


async def test_following_gives_every_piece_once_and_ends_with_the_experiment(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    ray.stubborn = True
    job.log = "a\n"
    async with following(service, f"experiments/{experiment_id}") as (pieces, reader):
        await until(lambda: "".join(pieces) == "a\n")
        streams = [path for _, path in ray.requests if "/logs/stream" in path]
        for k in range(20):
            job.log += f"{k}\n"
            await until(lambda k=k: "".join(pieces).endswith(f"{k}\n"))
        assert [path for _, path in ray.requests if "/logs/stream" in path] == streams  # one stream, no polling
        await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
        job.log += "c\n"
        await until(lambda: "".join(pieces).endswith("c\n"))
        assert not reader.done()  # the job still writes
        job.log += "d\n"
        ray.end(job, "STOPPED")
        async with asyncio.timeout(60):
            await reader
    assert "".join(pieces) == job.log


async def test_a_stream_that_breaks_off_goes_on_where_it_was(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    ray.cut_logs = True
    job.log = "a\n"
    async with following(service, f"experiments/{experiment_id}") as (pieces, reader):
        for word in ("b\n", "c\n", "d\n"):
            await until(lambda: "".join(pieces) == job.log)
            job.log += word
        await until(lambda: "".join(pieces) == job.log)
        ray.go_away()
        await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
        job.log += "e\n"
        ray.end(job, "SUCCEEDED")
        ray.come_back()
        async with asyncio.timeout(60):
            await reader
    assert "".join(pieces) == "a\nb\nc\nd\ne\n"


async def test_only_the_end_of_a_long_log_is_kept_and_a_follower_sees_no_seam(
    start_service: Callable[..., Any], ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "MAX_CHARS", 1000)
    service, experiment_id, job = await start(start_service, ray)
    job.log = "Ä" * 5000
    async with following(service, f"experiments/{experiment_id}") as (pieces, reader):
        await until(lambda: len("".join(pieces)) == 5000)
        job.log += "z" * 300
        await end(service, ray, experiment_id, job)
        async with asyncio.timeout(60):
            await reader
    assert "".join(pieces) == job.log
    assert await read(service, experiment_id) == f"[4300 characters were not kept]\n{job.log[4300:]}"


async def test_of_a_cluster_that_is_gone_the_workers_own_copy_is_kept(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    folder = Path(artefacts.folder(service.context.settings, job.submission_id), "logs")
    await asyncio.to_thread(folder.mkdir, parents=True)
    attempt_id = job.environment["ADADIM_ATTEMPT_ID"]
    (folder / f"attempt-{attempt_id}.1.log").write_text("the first words\n")
    (folder / f"attempt-{attempt_id}.log").write_text("the last words\n")
    await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
    ray.jobs.clear()  # another head, which knows nothing
    await until(lambda: is_closed(service, experiment_id))
    assert await read(service, experiment_id) == "the first words\nthe last words\n"


async def test_without_an_attempt_or_without_ray_the_log_is_empty(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    job.log = "there"
    ray.go_away()
    assert await read(service, experiment_id) == ""
    waiting = await service.submit()
    assert await read(service, waiting["id"]) == ""


async def test_a_log_that_never_comes_keeps_no_attempt_open(
    start_service: Callable[..., Any], ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "_KEEP_FOR_S", 0.2)
    service, experiment_id, job = await start(start_service, ray)
    job.log, ray.stall_logs = "words\n", True
    await end(service, ray, experiment_id, job)
    assert await read(service, experiment_id) == ""


async def test_reading_a_log_without_following_does_not_wait_for_ever(
    start_service: Callable[..., Any], ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    monkeypatch.setattr(jobs_module, "_TIMEOUT", httpx.Timeout(0.3))
    job.log, ray.stall_logs = "words\n", True
    async with asyncio.timeout(60):
        assert await read(service, experiment_id) == ""


async def test_followers_are_bounded_and_leave_the_dispatcher_its_connections(
    start_service: Callable[..., Any], ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_module, "readers", Shares("logs", 3, each=3))
    service, experiment_id, job = await start(start_service, ray)
    limits = httpx.Limits(max_connections=2)
    service.context.jobs._client = client(ray.address, RAY_TOKEN, limits=limits)
    job.log = "a\n"
    async with AsyncExitStack() as stack:
        for _ in range(3):
            pieces, _ = await stack.enter_async_context(following(service, f"experiments/{experiment_id}"))
            await until(lambda pieces=pieces: "".join(pieces) == "a\n")
        refused = await service.http.get(f"/api/v1/experiments/{experiment_id}/logs")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        await service.submit()
        await until(lambda: len(ray.jobs) == 2)
    await until(lambda: not endpoints_module.readers.taken)


# -- trials ---------------------------------------------------------------------------------------------------------


async def a_trial(service: Running, state: str = "running") -> tuple[int, Path]:
    """A trial's id and where its process writes its log."""
    from service.experiments import repository as experiments

    experiment = await service.submit()
    trial = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/trials")).json()["items"][0]
    await set_state(service, trial["id"], state)
    async with service.context.database.transaction() as session:
        key = await experiments.installation_key(session)
    folder = Path(artefacts.folder(service.context.settings, f"adadim-{key}-{experiment['id']}"))
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)  # numbers start again with every test
    return trial["id"], folder / "trials" / "0000" / "log.txt"


async def set_state(service: Running, trial_id: int, state: str) -> None:
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).where(Trial.id == trial_id).values(state=state))


async def test_the_log_of_a_trial_is_read_from_the_storage(service: Running) -> None:
    trial_id, path = await a_trial(service, "succeeded")
    url = f"/api/v1/trials/{trial_id}/logs"
    unseen = await service.http.get(url)
    assert unseen.status_code == 404
    assert "mount" in unseen.json()["detail"]
    path.parent.mkdir(parents=True)
    assert (await service.http.get(url)).text == ""
    path.write_text("epoch 2\n")
    path.with_name("log.1.txt").write_text("epoch 1\n")
    assert (await service.http.get(url)).text == "epoch 1\nepoch 2\n"
    assert (await service.http.get(url, params={"follow": True})).text == "epoch 1\nepoch 2\n"
    assert (await service.http.get("/api/v1/trials/4711/logs")).status_code == 404
    pending, _ = await a_trial(service, "pending")
    assert (await service.http.get(f"/api/v1/trials/{pending}/logs")).text == ""


async def test_following_a_trial_goes_over_to_the_next_file_and_ends_with_the_trial(service: Running) -> None:
    trial_id, path = await a_trial(service)
    path.parent.mkdir(parents=True)
    async with following(service, f"trials/{trial_id}") as (pieces, reader):
        path.write_text("one\n")
        await until(lambda: "".join(pieces) == "one\n")
        with path.open("a") as file:
            file.write("two\n")
            file.flush()
            path.replace(path.with_name("log.1.txt"))
            file.write("three\n")
        path.write_text("four\n")
        await until(lambda: "".join(pieces) == "one\ntwo\nthree\nfour\n")
        assert not reader.done()
        await set_state(service, trial_id, "failed")
        async with asyncio.timeout(60):
            await reader


# -- text -----------------------------------------------------------------------------------------------------------

OUTPUT = st.lists(st.sampled_from(["epoch 1\n", "Ä€😀", "\x1b[1;36m", "\x1b[0m", "\0", "[0m", "\x1b"]), max_size=30)


@settings(max_examples=200)
@given(OUTPUT.map("".join), st.lists(st.integers(0, 300), max_size=10))
def test_text_is_the_same_however_it_was_cut(output: str, cuts: list[int]) -> None:
    data = output.encode()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    cleaner, whole = Cleaner(), Cleaner()
    pieces = [cleaner.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    text = "".join(pieces) + cleaner.feed(b"", last=True)
    assert text == whole.feed(data, last=True)
    assert "\0" not in text
    assert text or not output.strip("\0\x1b[;0136m")
