"""How a job's driver comes by the right to report, and that who reads the job's environment on its node does not."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from dispatch_harness import attempts_of, dispatching, ended, submitted
from service_harness import RAY_TOKEN, RayStandIn, Running, client, queue, sweep, take_over_by_http, until

from adadim_core.spec.attempt_proof import proof, token_digest
from service.attempts import repository as attempts
from service.cluster.jobs import RayJobs
from service.cluster.local import LocalRay
from service.context import Context
from service.database.tables import Experiment
from service.secret import hash_token, new_token


class Opened:
    """An attempt whose job was started with a code, as the dispatcher opens it."""

    def __init__(self, service: Running, experiment_id: int, attempt_id: int, code: str) -> None:
        self.service, self.experiment_id, self.attempt_id, self.code = service, experiment_id, attempt_id, code

    @classmethod
    async def make(cls, service: Running) -> "Opened":
        number, code = (await service.submit())["id"], new_token()
        async with service.context.database.transaction() as session:
            attempt = await attempts.add(
                session, experiment_id=number, number=1, submission_id=f"job-{number}", code_hash=hash_token(code)
            )
            experiment = await session.get_one(Experiment, number)
            experiment.state, experiment.attempt = "starting", 1
        return cls(service, number, attempt.id, code)

    async def take_over(self, token: str, *, key: str | None = RAY_TOKEN, shown: str | None = None) -> httpx.Response:
        sha256 = token_digest(token)
        if key is not None:
            shown = proof(key, str(self.attempt_id), self.code, sha256)
        async with client(self.service.url, self.code) as http:
            return await http.put(f"/api/v1/attempts/{self.attempt_id}/token", json={"sha256": sha256, "proof": shown})

    async def report(self, token: str, **report: Any) -> int:
        async with client(self.service.url, token) as http:
            return (await http.post(f"/api/v1/attempts/{self.attempt_id}/reports", json=report)).status_code

    async def told(self) -> list[tuple[str, str]]:
        """By whom and what, of what the history tells beyond changes of state."""
        path = f"/api/v1/experiments/{self.experiment_id}/history"
        steps = (await self.service.http.get(path)).json()["items"]
        return [(step["by"], step["reason"]) for step in steps if step["source"] == step["target"]]


@pytest.fixture
async def opened(service: Running, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """On a cluster with a token."""
    monkeypatch.setattr(service.context.jobs, "token", RAY_TOKEN)
    return await Opened.make(service)


async def test_who_reads_a_job_s_environment_gets_neither_its_attempt_nor_a_word_in(
    start_service: Callable[..., Any], ray: RayStandIn
) -> None:
    """All that argv shows on a node, the job's whole environment, against the service; then the job itself."""
    service = await start_service(ray)
    experiment = await service.submit()
    job = await until(lambda: next(iter(ray.jobs.values()), None), "the job")
    seen = dict(job.environment)
    attempt = seen["ADADIM_ATTEMPT_ID"]
    path = f"/api/v1/attempts/{attempt}"
    forged = {"outcome": {"state": "succeeded"}}

    async def attack() -> None:
        for secret in seen.values():
            if not secret.isascii() or "\n" in secret:
                continue
            async with client(service.url, secret) as http:
                assert (await http.post(f"{path}/reports", json=forged)).status_code == 401
                sha256 = token_digest("mine")
                for shown in (None, *(proof(key, attempt, secret, sha256) for key in seen.values())):
                    refused = await http.put(f"{path}/token", json={"sha256": sha256, "proof": shown})
                    assert refused.status_code in (401, 403, 409), refused.text
        async with client(service.url, "mine") as http:
            assert (await http.post(f"{path}/reports", json=forged)).status_code == 401

    await attack()
    reports, token = await asyncio.to_thread(take_over_by_http, service.url, job)
    await attack()
    async with client(service.url, token) as http:
        assert (await http.post(reports, json={})).json() == {"directive": "continue"}
        assert (await service.experiment(experiment["id"]))["state"] == "running"
        assert (await http.post(reports, json=forged)).status_code == 200
    assert (await service.experiment(experiment["id"]))["state"] == "succeeded"
    history = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/history")).json()["items"]
    told = [step["reason"] for step in history if step["source"] == step["target"]]
    assert len([reason for reason in told if "refused, it does not know the cluster's token" in reason]) == 3
    assert "its job took attempt 1 over, proven by the cluster's token" in told


async def test_a_code_is_no_token_and_a_proof_is_for_one_token_of_one_attempt(opened: Opened) -> None:
    token, other = new_token(), await Opened.make(opened.service)
    assert await opened.report(opened.code) == 401
    right = proof(RAY_TOKEN, str(opened.attempt_id), opened.code, token_digest(token))
    for shown in (None, "0" * 64, proof("guessed", str(opened.attempt_id), opened.code, token_digest(token))):
        refused = await opened.take_over(token, key=None, shown=shown)
        assert refused.status_code == 403
        assert "RAY_AUTH_TOKEN" in refused.json()["detail"]
    # seen on its way, and used for a token of one's own, or for another attempt
    assert (await opened.take_over(new_token(), key=None, shown=right)).status_code == 403
    assert (await other.take_over(token, key=None, shown=right)).status_code == 403
    assert await opened.report(token) == 401
    assert (await opened.take_over(token, key=None, shown=right)).status_code == 204
    assert await opened.report(token) == 200
    async with client(opened.service.url, other.code) as http:
        assert (await http.put(f"/api/v1/attempts/{opened.attempt_id}/token", json={})).status_code == 401


async def test_only_the_first_takes_an_attempt_over_and_the_history_tells_of_others(opened: Opened) -> None:
    token = new_token()
    for _ in range(2):  # the answer to the first was lost
        assert (await opened.take_over(token)).status_code == 204
    assert await opened.told() == [("worker", "its job took attempt 1 over, proven by the cluster's token")]
    for _ in range(5):
        refused = await opened.take_over(new_token())
        assert (refused.status_code, refused.json()["title"]) == (409, "Superseded")
    assert await opened.report(token) == 200
    ((_, _), *others) = await opened.told()
    assert [by for by, _ in others] == ["service"] * 3, "more would only fill the history"
    assert all(what.endswith("wanted to report for it: refused, another process has the attempt") for _, what in others)
    assert await opened.report(token, outcome={"state": "succeeded"}) == 200
    assert (await opened.take_over(token)).status_code == 409, "the attempt is over"


async def test_of_those_who_ask_at_the_same_time_one_gets_the_attempt(opened: Opened) -> None:
    wanted = [new_token() for _ in range(6)]
    answers = [answer.status_code for answer in await asyncio.gather(*map(opened.take_over, wanted))]
    assert sorted(answers) == [204, 409, 409, 409, 409, 409]
    for token, answer in zip(wanted, answers, strict=True):
        assert await opened.report(token) == (200 if answer == 204 else 401)


async def test_a_cluster_without_a_token_proves_nothing_and_the_history_says_so(service: Running) -> None:
    opened, token = await Opened.make(service), new_token()
    assert (await opened.take_over(token, key=None)).status_code == 204
    assert (await opened.take_over(new_token(), key=None)).status_code == 409
    assert await opened.report(token) == 200
    assert (await opened.told())[0][1] == "its job took attempt 1 over, unproven, as the cluster has no token"


async def test_a_key_of_the_lab_s_own_serves_instead_of_the_cluster_s_token(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, key = opened.service.context, secrets.token_hex()
    monkeypatch.setattr(context, "settings", context.settings.model_copy(update={"job_key": key}))
    token = new_token()
    assert (await opened.take_over(token, key=RAY_TOKEN)).status_code == 403
    assert (await opened.take_over(token, key=key)).status_code == 204


async def test_the_local_cluster_s_token_is_known_before_the_cluster_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of the head that an earlier service left may speak up at once, and so may others."""

    async def never(_: LocalRay) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LocalRay, "_supervise", never)
    jobs = RayJobs()
    local = LocalRay(tmp_path, jobs, 1)
    local.start()
    try:
        assert jobs.token == (tmp_path / "ray-token").read_text().strip() != ""
        await jobs.close()
        assert jobs.token
    finally:
        await local.stop()


@pytest.mark.usefixtures("quick_dispatch")
async def test_a_job_that_is_not_taken_for_one_fails_its_experiment_with_what_to_do(
    context: Context, ray: RayStandIn
) -> None:
    experiment_id = await queue(context, sweep(2, retries=2))
    async with dispatching(context):
        await submitted(context, experiment_id)
        ray.only_job.exit_code = 77
        ray.end(ray.only_job, "FAILED", "Job failed\nfailed: HTTP 403: The nodes need the RAY_AUTH_TOKEN\n")
        experiment = await ended(context, experiment_id)
    assert experiment.state == "failed"
    assert str(experiment.state_reason).endswith("this attempt's: failed: HTTP 403: The nodes need the RAY_AUTH_TOKEN")
    assert len(await attempts_of(context, experiment_id)) == 1
