"""A cluster that is away is news when that begins and when it ends, and ever more rarely in between."""

import contextlib
import logging
from itertools import pairwise

import pytest
from service_harness import RAY_TOKEN, RayStandIn

from service.cluster.jobs import ClusterUnavailable, RayJobs
from service.cluster.outage import Outage


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service.cluster.outage")


def test_a_day_without_an_answer_is_told_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage, told = Outage(lambda: now), []
    for second in range(24 * 3600):
        now, before = float(second), len(caplog.records)
        outage.failed("no answer")
        told += [second] * (len(caplog.records) - before)
    assert told[:7] == [0, 60, 180, 420, 900, 1860, 3780]
    assert {later - earlier for earlier, later in pairwise(told[6:])} == {3600}
    assert "has been away for 3 min: no answer" in caplog.messages[2]
    outage.answered()
    outage.answered()
    assert caplog.messages[-1] == "the Ray cluster answers again, after 86399 s"
    assert len(caplog.records) == len(told) + 1
    outage.failed("no answer")  # another one, told at once
    assert caplog.messages[-1] == "the Ray cluster is away; what needs it waits: no answer"


async def test_the_cluster_is_away_while_no_ray_answers(ray: RayStandIn, caplog: pytest.LogCaptureFixture) -> None:
    jobs = RayJobs(Outage())

    async def ask() -> None:
        for _ in range(3):
            with contextlib.suppress(ClusterUnavailable):
                await jobs.find("x")

    try:
        await jobs.connect(ray.address, RAY_TOKEN)
        await ask()
        ray.broken = True  # it answers, if with errors: those are of what was asked
        await ask()
        assert caplog.messages == []
        ray.broken = False
        ray.go_away()
        await ask()
        ray.come_back()
        await ask()
        assert ["no answer from Ray at" in message for message in caplog.messages] == [True, False]
        caplog.clear()
        await jobs.connect(ray.address, "another token")
        await ask()
        assert ["refuses the token" in message for message in caplog.messages] == [True]
    finally:
        await jobs.close()
