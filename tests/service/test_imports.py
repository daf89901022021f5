"""Runs made without the service are brought into it: `python -m workers import`, as a process, over HTTP."""

import asyncio
import functools
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest
from fronts import front, make_authority
from service_harness import Running
from sqlalchemy import func, select

from adadim_core.spec import parse_spec, plan_trials
from service.database.tables import Attempt, Experiment
from service.experiments.service import read_spec
from service.imports import endpoints
from service.imports.service import MAX_UNDER_WAY
from workers.errors import RunError
from workers.reporting.importing import import_results
from workers.storage.claim import prepare
from workers.storage.folder import Storage
from workers.storage.points import write_points
from workers.storage.results import write_results
from workers.storage.spool import Spool
from workers.storage.trial_result import TrialResult

SPEC = parse_spec("{name: made alone, search: {algorithm: grid, space: {training.lr: {choice: [0.1, 0.2, 0.3]}}}}")


@pytest.fixture
def results(tmp_path: Path) -> Storage:
    """What a finished run leaves: two trials that went well, one that failed."""
    storage = Storage(tmp_path / "results")
    prepare(storage, SPEC)
    for trial in range(3):
        spool = Spool(storage.spool(trial, "local"), trial)
        for step in range(0, 1_500, 10):
            spool.append(step, step / 100, {"h_r": step / 2, "loss": math.nan if trial == 2 else 1.0})
        spool.append(1_500, 15.0, {"knn_top1": 0.5 + trial / 10})
    write_points(storage, range(3))
    write(storage, "failed")
    return storage


def write(storage: Storage, last: Any) -> None:
    trials = [
        TrialResult(0, {"training.lr": 0.1}, "succeeded", 15, 15, {"knn_top1": 0.5}),
        TrialResult(1, {"training.lr": 0.2}, "succeeded", 15, 15, {"knn_top1": 0.6}),
        TrialResult(2, {"training.lr": 0.3}, last, 15, 15, {"knn_top1": 0.7}, error="Diverged: the loss is nan"),
    ]
    write_results(storage, SPEC, trials)


async def run_import(service: Running, storage: Storage, token: str | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers", "import", str(storage.root), "--service", service.url),
        env=os.environ | {"ADADIM_TOKEN": token or service.token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_an_imported_run_is_a_finished_experiment_and_is_imported_once(
    service: Running, results: Storage
) -> None:
    assert await run_import(service, results) == (0, "imported as experiment 1: 3 trials, 903 points\n")
    experiment = await service.experiment(1)
    assert experiment["state"] == "succeeded"
    assert (experiment["best_trial"], experiment["best_value"]) == (1, 0.6)
    assert (experiment["trials_done"], experiment["owner"]) == (3, "ada")
    trials = (await service.http.get("/api/v1/experiments/1/trials")).json()["items"]
    assert [trial["state"] for trial in trials] == ["succeeded", "succeeded", "failed"]
    assert trials[2]["error"] == "Diverged: the loss is nan"
    assert trials[2]["latest"]["loss"] == "NaN"
    found = (await service.http.get("/api/v1/experiments/1/metrics", params={"metrics": "h_r"})).json()["series"]
    assert [(one["trial"], one["total"], one["values"][-1]) for one in found] == [(n, 150, 745.0) for n in range(3)]

    assert await run_import(service, results) == (0, "experiment 1 has these results already\n")
    async with service.context.database.transaction() as session:
        assert (await session.scalars(select(func.count()).select_from(Experiment))).one() == 1
        assert (await session.scalars(select(func.count()).select_from(Attempt))).one() == 1


async def test_an_import_that_broke_off_goes_on(service: Running, results: Storage) -> None:
    body = {"id": results.experiment_id(), "spec": json.dumps(SPEC.model_dump(mode="json"))}
    opened = (await service.http.post("/api/v1/experiments/import", json=body)).json()
    experiment = await service.experiment(opened["experiment_id"])
    assert experiment["state"] == "importing"
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, 1)
        assert row.due_at is None, "nothing for a dispatcher to do"

    code, output = await run_import(service, results)
    assert (code, output) == (0, "imported as experiment 1: 3 trials, 903 points\n")
    late = await service.http.post(
        f"/api/v1/attempts/{opened['attempt_id']}/reports",
        json={"outcome": {"state": "failed"}},
        headers={"Authorization": f"Bearer {opened['token']}"},
    )
    assert late.status_code == 409, "the import that broke off has no say any more"


async def test_the_key_of_a_submission_is_no_imports(service: Running) -> None:
    run_id, spec = "0" * 32, '{"name": "same"}'
    submitted = await service.submit(spec, **{"Idempotency-Key": f"import-{run_id}"})
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, submitted["id"])
        row.state = "running"
    answer = await service.http.post("/api/v1/experiments/import", json={"id": run_id, "spec": spec})
    assert answer.status_code == 200, answer.text
    assert answer.json()["experiment_id"] != submitted["id"]


async def test_an_import_waits_for_who_works_on_the_experiment_and_goes_by_what_it_is_then(service: Running) -> None:
    body = {"id": "0" * 32, "spec": '{"name": "same"}'}
    url = "/api/v1/experiments/import"
    opened = (await service.http.post(url, json=body)).json()
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, opened["experiment_id"], with_for_update=True)
        again = asyncio.create_task(service.http.post(url, json=body))
        await asyncio.sleep(0.3)
        assert not again.done()
        row.state = "running"  # no import's, however it came about
    assert (await again).status_code == 409
    assert (await service.experiment(opened["experiment_id"]))["state"] == "running"


@pytest.mark.parametrize("state", ["interrupted", "pending"])
async def test_a_run_that_did_not_finish_is_not_imported(service: Running, results: Storage, state: str) -> None:
    write(results, state)
    code, output = await run_import(service, results)
    assert code == 1
    assert "has not finished (trials 2); run its spec again with the same --storage" in output


async def test_what_cannot_be_imported_is_explained(service: Running, results: Storage, tmp_path: Path) -> None:
    code, output = await run_import(service, results, token="adadim_wrong")
    assert code == 1
    assert "HTTP 401" in output
    code, output = await run_import(service, Storage(tmp_path))
    assert code == 1
    assert f"{tmp_path}/spec.json is missing" in output


async def test_an_imported_sweep_with_seeds_has_the_answer_of_its_folder(service: Running, tmp_path: Path) -> None:
    search = "{algorithm: grid, seeds: 3, space: {training.lr: {choice: [0.1, 0.2]}}}"
    spec = parse_spec(f"{{name: with seeds, search: {search}}}")
    storage = Storage(tmp_path / "results")
    prepare(storage, spec)
    plans = plan_trials(spec)
    values = [0.5 + (plan.params["training.lr"] == 0.2) / 4 + plan.number / 359 for plan in plans]
    for plan, value in zip(plans, values, strict=True):
        Spool(storage.spool(plan.number, "local"), plan.number).append(10, 15.0, {"knn_top1": value})
    write_points(storage, range(len(plans)))
    ended = [
        TrialResult(plan.number, plan.params, "succeeded", 15, 15, {"knn_top1": value})
        for plan, value in zip(plans, values, strict=True)
    ]
    write_results(storage, spec, ended)
    code, output = await run_import(service, storage)
    assert code == 0, output
    found = (await service.http.get("/api/v1/experiments/1/answer")).json()
    assert found == json.loads(storage.results.read_text())["answer"]
    assert [c["seeds"] for c in found["configurations"]] == [[0, 1, 2], [0, 1, 2]]


async def test_an_import_over_tls_trusts_as_its_reports_do(
    service: Running, results: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that could open the experiment and not report would leave it importing."""
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    backend = int(service.url.rpartition(":")[2])
    opener = functools.partial(asyncio.open_connection, "127.0.0.1", backend)
    async with front(opener, authority.server("localhost")) as port:
        url = f"https://localhost:{port}"
        monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
        with pytest.raises(RunError, match="unknown CA"):
            await asyncio.to_thread(import_results, results, url, service.token)
        assert (await service.http.get("/api/v1/experiments")).json()["items"] == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        done = await asyncio.to_thread(import_results, results, url, service.token)
        assert done == "imported as experiment 1: 3 trials, 903 points"


async def test_an_import_too_many_is_refused_before_its_spec_is_looked_at(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to be checked, and its trials stored and rolled back, each time it was tried again."""
    looked_at: list[bytes] = []

    def read(body: bytes, *rest: Any) -> Any:
        looked_at.append(body)
        return read_spec(body, *rest)

    monkeypatch.setattr(endpoints, "read_spec", read)

    async def begin(number: int) -> Any:
        body = {"id": f"{number:032x}", "spec": '{"name": "a"}'}
        return await service.http.post("/api/v1/experiments/import", json=body)

    assert [(await begin(number)).status_code for number in range(MAX_UNDER_WAY)] == [200] * MAX_UNDER_WAY
    looked_at.clear()
    refused = await begin(MAX_UNDER_WAY)
    assert (refused.status_code, refused.headers["retry-after"], looked_at) == (429, "10", [])
    assert (await begin(0)).status_code == 200, "one that has begun goes on"
