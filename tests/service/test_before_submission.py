"""What is told before a submission and of single trials: estimates, examples, whole configurations, attempts; pages."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from service_harness import Running
from sqlalchemy import update

from adadim_core.spec import parse_spec
from service.database.tables import Attempt, Experiment, Trial

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NETWORK = "model: {backbone: conv_small, width: 16}"
SWEEP = """
name: sweep
%s
training: {epochs: %d}
search: {algorithm: grid, space: {training.lr: {choice: [0.1, 0.2, 0.3, 0.4]}}}
"""


async def plan(service: Running, spec: str) -> dict[str, Any]:
    answer = await service.http.post("/api/v1/experiments", params={"dry_run": True}, content=spec)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def trained(service: Running, spec: str, *, seconds: float, epochs: int, took: float) -> int:
    """An experiment whose trials took so long each, all within `took` seconds."""
    number: int = (await service.submit(spec))["id"]
    async with service.context.database.transaction() as session:
        end = BEGAN + timedelta(seconds=seconds)
        values = {"state": "succeeded", "epoch": epochs, "started_at": BEGAN, "ended_at": end}
        await session.execute(update(Trial).where(Trial.experiment_id == number).values(**values))
        values = {"state": "succeeded", "started_at": BEGAN, "ended_at": BEGAN + timedelta(seconds=took)}
        await session.execute(update(Experiment).where(Experiment.id == number).values(**values))
    return number


async def test_a_plan_tells_how_long_it_takes_by_what_the_network_took_before(service: Running) -> None:
    assert (await plan(service, SWEEP % (NETWORK, 20)))["estimate"] is None  # it has never trained
    await trained(service, SWEEP % (NETWORK, 10), seconds=30, epochs=10, took=60)  # 3 s an epoch, two at once
    await trained(service, SWEEP % ("model: {backbone: resnet18}", 10), seconds=9000, epochs=10, took=9000)
    assert (await plan(service, SWEEP % (NETWORK, 20)))["estimate"] == {
        "seconds": pytest.approx(4 * 60 / 2),
        "seconds_per_trial": pytest.approx(60),
        "at_once": pytest.approx(2),
        "network": "conv_small, width 16, on digits",
        "trials": 4,
    }
    single = (await plan(service, f"name: one\n{NETWORK}\ntraining: {{epochs: 20}}"))["estimate"]
    assert single["seconds"] == pytest.approx(60)  # one trial has nothing to run beside
    assert (await plan(service, SWEEP % ("model: {backbone: conv_small, width: 32}", 20)))["estimate"] is None
    varied = "name: v\nsearch: {algorithm: grid, space: {model.width: {choice: [16, 32]}}}"
    assert (await plan(service, varied))["estimate"] is None


async def test_a_single_run_is_a_measure_too(service: Running) -> None:
    spec = f"name: one\n{NETWORK}\ntraining: {{epochs: 2, warmup_epochs: 0}}"
    await trained(service, spec, seconds=4, epochs=2, took=5)
    assert (await plan(service, spec))["estimate"]["seconds"] == pytest.approx(4)


async def test_a_sweep_over_networks_is_no_measure_of_one(service: Running) -> None:
    spec = f"name: v\n{NETWORK}\nsearch: {{algorithm: grid, space: {{model.width: {{choice: [16, 32]}}}}}}"
    await trained(service, spec, seconds=30, epochs=10, took=60)
    assert (await plan(service, SWEEP % (NETWORK, 20)))["estimate"] is None


async def test_the_examples_are_specs_that_would_be_taken(service: Running) -> None:
    examples = (await service.http.get("/api/v1/spec/examples")).json()["items"]
    assert {"digits-sweep", "digits-tpe-asha"} <= {example["name"] for example in examples}
    for example in examples:
        assert parse_spec(example["text"]).name == example["name"]
        assert example["about"]
        assert (await plan(service, example["text"]))["trials"]


async def test_a_trial_has_its_whole_configuration(service: Running) -> None:
    experiment = await service.submit(SWEEP % (NETWORK, 20))
    trial = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/trials")).json()["items"][2]
    spec = (await service.http.get(f"/api/v1/trials/{trial['id']}")).json()["spec"]
    assert spec["training"]["lr"] == trial["params"]["training.lr"] == 0.3
    assert spec["model"]["width"] == 16
    assert spec["objective"]["weighting"]["policy"] == "adaptive"
    assert "search" not in spec


async def test_attempts_are_listed_in_their_order(service: Running) -> None:
    number = (await service.submit())["id"]
    async with service.context.database.transaction() as session:
        for attempt, state in ((1, "lost"), (2, "running")):
            session.add(
                Attempt(
                    experiment_id=number, number=attempt, submission_id=f"j{attempt}", token_hash=b"", state=state,
                    started_at=BEGAN, error="the node went away" if attempt == 1 else None,
                )
            )  # fmt: skip
            await session.flush()
    path = f"/api/v1/experiments/{number}/attempts"
    first = (await service.http.get(path, params={"limit": 1})).json()
    (attempt,) = first["items"]
    assert (attempt["number"], attempt["state"], attempt["error"]) == (1, "lost", "the node went away")
    rest = (await service.http.get(path, params={"cursor": first["next_cursor"]})).json()
    assert ([item["number"] for item in rest["items"]], rest["next_cursor"]) == ([2], None)
    assert (await service.http.get("/api/v1/experiments/4711/attempts")).status_code == 404


@pytest.mark.parametrize("path", ["/nonsense", "/experiments/7/nothing", "/static/nothing.js"])
async def test_where_nothing_is_people_get_a_page_and_programs_a_problem(service: Running, path: str) -> None:
    page = await service.http.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for accept in ("*/*", "application/json"):
        problem = await service.http.get(path, headers={"Accept": accept})
        assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")
    api = await service.http.get(f"/api/v1{path}", headers={"Accept": "text/html"})
    assert (api.status_code, api.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/", "/new", "/diff", "/experiments/7/trials/3", "/docs"])
async def test_every_page_runs_our_own_scripts_only(service: Running, path: str) -> None:
    page = await service.http.get(path)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_scripts_that_the_first_page_needs_are_asked_for_at_once(service: Running) -> None:
    preloads = re.findall(r'"modulepreload" href="\./static/js/(\w+)\.js"', (await service.http.get("/")).text)
    assert {"app", "list", "list_table", "dom"} <= set(preloads)
    assert not {"editor", "experiment", "trial"} & set(preloads)  # which are read when somebody goes there
    assert len(preloads) == len(set(preloads))


async def test_files_travel_compressed(service: Running) -> None:
    script = await service.http.get("/static/js/app.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["content-encoding"] == "gzip"
    assert "import" in script.text
