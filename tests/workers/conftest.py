"""Fixtures of the worker tests: a service that can misbehave, and one Ray head for the whole session."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_harness import FakeService, RayHead, WorkerRun

from tests.object_stores import place, s3, s3_server, store_that_says

__all__ = ["place", "s3", "s3_server", "store_that_says"]


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    head = RayHead()
    yield head
    head.stop()


@pytest.fixture
def run_workers(ray_head: RayHead, tmp_path: Path) -> Iterator[Callable[..., WorkerRun]]:
    """Starts `python -m workers` on the session's cluster."""
    started: list[WorkerRun] = []

    def start(
        spec: dict[str, Any],
        *,
        storage: str = "results",
        head: RayHead = ray_head,
        held_at: int | None = None,
        **environment: str,
    ) -> WorkerRun:
        file = tmp_path / "spec.yaml"
        file.write_text(json.dumps(spec))
        place = storage if "://" in storage else tmp_path / storage
        run = WorkerRun(head.environment() | environment, file, place, tmp_path, held_at=held_at)
        started.append(run)
        return run

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
