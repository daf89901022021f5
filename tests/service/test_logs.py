"""The log of an experiment: from Ray while the job is there, kept afterwards, followed over attempts."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from service_harness import RayJob, RayStandIn, Running, Worker, until

from service.dispatch import dispatcher as dispatcher_module
from service.dispatch import service as dispatch
from service.logs import endpoints as logs_module


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "_POLL_S", 0.02)
    monkeypatch.setattr(dispatcher_module, "_CLOSE_AFTER", timedelta(0))
    monkeypatch.setattr(dispatch, "CHECK_INTERVAL", timedelta(milliseconds=20))
    monkeypatch.setattr(logs_module, "_FOLLOW_INTERVAL_S", 0.02)


async def start(start_service: Callable[..., Any], ray: RayStandIn) -> tuple[Running, int, RayJob]:
    service: Running = await start_service(ray)
    experiment = await service.submit()
    await until(lambda: ray.jobs)
    return service, experiment["id"], ray.only_job


async def read(service: Running, experiment_id: int, **params: Any) -> str:
    response = await service.http.get(f"/api/v1/experiments/{experiment_id}/logs", params=params)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    return response.text


async def test_the_log_is_live_and_is_kept_when_ray_has_forgotten_it(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    assert await read(service, experiment_id) == ""
    job.log = "epoch 1\nÄ\n"
    assert await read(service, experiment_id) == "epoch 1\nÄ\n"
    await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
    await until(lambda: job.stops)
    job.log += "done\n"

    async def kept() -> bool:
        ray.requests.clear()
        text = await read(service, experiment_id)
        return text.startswith("epoch 1") and not any(path.endswith("/logs") for _, path in ray.requests)

    await until(kept)
    ray.jobs.clear()
    ray.go_away()
    assert (await read(service, experiment_id)).startswith("epoch 1\nÄ\n")


async def test_following_gives_every_piece_once_and_ends_with_the_experiment(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    ray.stubborn = True
    job.log = "a\n"
    pieces: list[str] = []

    async def follow() -> None:
        path = f"/api/v1/experiments/{experiment_id}/logs"
        async with service.http.stream("GET", path, params={"follow": True}) as response:
            async for piece in response.aiter_text():
                pieces.append(piece)  # noqa: PERF401 - seen while it grows

    reader = asyncio.create_task(follow())
    await until(lambda: "".join(pieces) == "a\n")
    job.log += "b\n"
    await until(lambda: "".join(pieces) == "a\nb\n")
    await Worker.of(service.context, job).report(outcome={"state": "succeeded"})
    await asyncio.sleep(0.1)
    assert not reader.done()  # the job still writes
    job.log += "c\n"
    ray.end(job, "STOPPED")
    async with asyncio.timeout(5):
        await reader
    assert "".join(pieces) == "a\nb\nc\n"


async def test_without_an_attempt_or_without_ray_the_log_is_empty(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    service, experiment_id, job = await start(start_service, ray)
    job.log = "there"
    ray.go_away()
    assert await read(service, experiment_id) == ""
    waiting = await service.submit()
    assert await read(service, waiting["id"]) == ""
