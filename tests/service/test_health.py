"""Probes, Prometheus, the OpenAPI document, and that every error is a problem document."""

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_harness import RayStandIn, Running, client, make_settings, parts, serving, until
from sqlalchemy import update
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from service.app import attach, create_app
from service.database.embedded import EmbeddedPostgres
from service.database.engine import Database
from service.database.tables import Trial


async def ready(http: httpx.AsyncClient, *, cluster: str) -> None:
    """Until it is ready, with that word on its cluster: what takes two seconds to answer is said not to."""

    async def check() -> bool:
        answer = await http.get("/readyz")
        wanted = {"status": "ok", "database": "ok", "cluster": cluster}
        return answer.status_code == 200 and answer.json() == wanted

    await until(check)


async def test_probes_need_no_token(service: Running) -> None:
    async with client(service.url, None) as http:
        assert (await http.get("/healthz")).json()["status"] == "ok"
        await ready(http, cluster="no answer")  # it may start later


async def test_ready_says_whether_the_cluster_answers(database_url: str, tmp_path: Path, ray: RayStandIn) -> None:
    async with parts(database_url, tmp_path, ray) as context:
        app = create_app(make_settings(tmp_path), "")
        attach(app, context)
        async with serving(app, lifespan=False) as url, client(url, None) as http:
            await ready(http, cluster="ok")
            ray.go_away()
            await ready(http, cluster="no answer")


@pytest.mark.usefixtures("quick_initdb")
async def test_not_ready_while_the_database_is_away_and_again_when_it_is_back(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    url = await asyncio.to_thread(server.launch)
    async with parts(url, tmp_path) as context:
        app = create_app(make_settings(tmp_path), "")
        attach(app, context)
        async with serving(app, lifespan=False) as address, client(address, None) as http:
            await ready(http, cluster="no answer")
            await asyncio.to_thread(server.halt)
            away = await http.get("/readyz")
            assert (away.status_code, away.json()["database"]) == (503, "no answer")
            assert (await http.get("/healthz")).status_code == 200
            await asyncio.to_thread(server.launch)
            await ready(http, cluster="no answer")
    await asyncio.to_thread(server.halt)


async def test_prometheus_shows_the_last_values_of_running_trials_only(service: Running) -> None:
    spec = "{name: a, search: {trials: 3, space: {training.lr: {uniform: [0.1, 0.5]}}}}"
    experiment = await service.submit(spec)
    latest = {"h_r": {"step": 3, "value": 2.5}, "i_rz": {"step": 3, "value": "NaN"}, "lr": {"step": 3, "value": 1.0}}
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).values(latest=latest))
        await session.execute(update(Trial).where(Trial.number == 1).values(state="running"))
    await service.http.get("/api/v1/experiments/12345")
    response = await service.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    trial = (("experiment", str(experiment["id"])), ("trial", "1"))
    assert samples[("adadim_trial_h_r", trial)] == 2.5
    assert samples[("adadim_trial_i_rz", trial)] != samples[("adadim_trial_i_rz", trial)]
    assert len([name for name, _ in samples if name == "adadim_trial_h_r"]) == 1
    assert "adadim_trial_lr" not in {name for name, _ in samples}
    assert samples[("adadim_experiments", (("state", "queued"),))] == 1
    route = (("method", "GET"), ("route", "/api/v1/experiments/{experiment_id}"), ("status", "404"))
    assert samples[("adadim_http_requests_total", route)] >= 1
    assert not any("12345" in str(labels) for _, labels in samples)


async def test_the_openapi_document_describes_the_api(service: Running) -> None:
    document = (await service.http.get("/openapi.json")).json()
    assert {
        "/api/v1/experiments",
        "/api/v1/experiments/{experiment_id}",
        "/api/v1/experiments/{experiment_id}/cancel",
        "/api/v1/experiments/{experiment_id}/trials",
        "/api/v1/experiments/{experiment_id}/metrics",
        "/api/v1/experiments/{experiment_id}/events",
        "/api/v1/experiments/{experiment_id}/logs",
        "/api/v1/trials/{trial_id}",
        "/api/v1/trials/{trial_id}/metrics",
        "/api/v1/spec/schema",
        "/api/v1/attempts/{attempt_id}/reports",
        "/api/v1/session",
        "/healthz",
        "/readyz",
        "/metrics",
    } <= set(document["paths"])
    post = document["paths"]["/api/v1/experiments"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/yaml", "application/json"}
    assert "application/problem+json" in post["responses"]["422"]["content"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path} says nothing"
    assert (await service.http.get("/docs")).status_code == 200
    assert (await service.http.get("/api/v1/spec/schema")).json()["title"] == "ExperimentSpec"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../../settings.py", 404),
        ("GET", "/static/%2e%2e/%2e%2e/settings.py", 404),
        ("PUT", "/api/v1/experiments", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/api/v1/experiments/x", 422),
        ("GET", "/api/v1/experiments/1", 404),
        ("POST", "/api/v1/session", 422),
    ],
)
async def test_every_error_is_a_problem_document(service: Running, method: str, path: str, status: int) -> None:
    response = await service.http.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    if status == 405:
        assert response.headers["allow"]


async def test_a_pool_without_a_free_connection_asks_to_come_back(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exhausted(*_: object, **__: object) -> None:
        raise NoConnectionFree("QueuePool limit of size 10 overflow 10 reached, connection timed out")

    monkeypatch.setattr("service.experiments.listing.page", exhausted)
    answer = await service.http.get("/api/v1/experiments")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_bug_is_a_problem_document_without_its_details(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Database) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Database, "ping", broken)
    response = await service.http.get("/readyz")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert (await service.http.get("/healthz")).status_code == 200


async def test_the_dashboard_page_is_served_with_a_strict_policy(service: Running) -> None:
    async with client(service.url, None) as http:
        for path in ("/", "/experiments/7"):
            page = await http.get(path)
            assert page.status_code == 200
            assert "default-src 'self'" in page.headers["content-security-policy"]
            assert page.headers["x-content-type-options"] == "nosniff"
            assert "//cdn" not in page.text


async def test_no_route_takes_a_body_without_bound(service: Running) -> None:
    limit = 64 * 1024
    content = b"{" + b" " * limit
    for path in ("/api/v1/session", "/api/v1/experiments/1/cancel"):
        response = await service.http.post(path, content=content)
        assert response.status_code == 413, path
        assert str(limit) in response.json()["detail"]
    # This one wants an attempt's token before it reads anything; its bound is test_reports.py's.
    assert (await service.http.post("/api/v1/attempts/1/reports", content=content)).status_code == 401
