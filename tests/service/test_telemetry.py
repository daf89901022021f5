"""What operators see: request ids, log records with the ids they need, Prometheus counters, traces, the doctor."""

import asyncio
import io
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from service_harness import RAY_TOKEN, RayStandIn, Running, client, make_settings, until
from sqlalchemy import select, text
from test_process import Served

from service.cli import doctor
from service.cli.running import recorded
from service.database.address import read_address
from service.database.embedded import EmbeddedPostgres
from service.database.engine import Database
from service.database.tables import Token
from service.telemetry.records import JsonFormatter, TextFormatter, bound


@pytest.fixture
def records() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged, as a collector reads it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


async def samples(service: Running) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await service.http.get("/metrics")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


# -- requests -------------------------------------------------------------------------------------------------------


async def test_a_request_keeps_its_id_and_every_record_of_it_carries_the_ids(
    service: Running, records: Callable[[], list[dict[str, Any]]]
) -> None:
    answer = await service.http.get("/api/v1/experiments/4711", headers={"X-Request-ID": "from-the-proxy.1"})
    assert answer.headers["x-request-id"] == "from-the-proxy.1"
    (record,) = [r for r in records() if r.get("request_id") == "from-the-proxy.1"]
    assert (record["status"], record["path"], record["method"]) == (404, "/api/v1/experiments/4711", "GET")
    assert (record["experiment_id"], record["logger"], record["level"]) == (
        "4711",
        "service.telemetry.requests",
        "info",
    )
    assert record["seconds"] > 0


async def test_records_of_a_request_name_its_user_and_token(
    service: Running, records: Callable[[], list[dict[str, Any]]]
) -> None:
    async with service.context.database.transaction() as session:
        token_id = await session.scalar(select(Token.id).where(Token.name == "ada"))
    for _ in range(2):  # recognised from the database, and from a moment ago
        await service.http.get("/api/v1/experiments/4711", headers={"X-Request-ID": "hers"})
    assert [(r["user"], r["token_id"]) for r in records() if r.get("request_id") == "hers"] == [("ada", token_id)] * 2
    async with client(service.url, "nobody's") as http:
        await http.get("/api/v1/experiments", headers={"X-Request-ID": "refused"})
        await http.post("/api/v1/session", json={"token": service.token}, headers={"X-Request-ID": "signs-in"})
    refused, signed_in = ([r for r in records() if r.get("request_id") == name][-1] for name in ("refused", "signs-in"))
    assert "user" not in refused
    assert signed_in["user"] == "ada"
    assert service.token not in str(records())


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "{}", "a%0d%0ab"])
async def test_an_id_that_is_no_plain_word_is_replaced(service: Running, offered: str) -> None:
    answer = await service.http.get("/healthz", headers={"X-Request-ID": offered})
    assert answer.headers["x-request-id"] != offered
    assert len(answer.headers["x-request-id"]) == 32


async def test_probes_and_scrapes_leave_no_record(
    service: Running, records: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that takes two seconds is not ready, which is worth a record.
    monkeypatch.setattr(Database, "ping", AsyncMock())
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await service.http.get(path)).status_code == 200
    assert [r for r in records() if r["logger"] == "service.telemetry.requests"] == []
    assert (await service.http.get("/metrics", headers={"Authorization": "Bearer no"})).status_code == 401
    assert [r["status"] for r in records() if r["logger"] == "service.telemetry.requests"] == [401]


async def test_a_bug_has_an_id_a_record_with_its_trace_and_is_counted(
    service: Running, records: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Database) -> None:
        raise RuntimeError("the reason")

    key = ("adadim_http_requests_total", (("method", "GET"), ("route", "/readyz"), ("status", "500")))
    before = (await samples(service)).get(key, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "ping", broken)
        answer = await service.http.get("/readyz")
    assert answer.status_code == 500
    (failure,) = [r for r in records() if "exception" in r]
    assert "RuntimeError: the reason" in failure["exception"]
    assert failure["request_id"] == answer.headers["x-request-id"]
    assert (await samples(service))[key] == before + 1


def test_text_records_are_for_people_and_json_records_for_machines() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, "", 0, "%s is\nlost", ("it",), None)
    with bound(experiment_id=7, attempt_id=None):
        assert TextFormatter().format(record).endswith("warning it is\nlost  [experiment_id=7]")
        with bound(attempt_id=lambda: 3):
            entry = json.loads(JsonFormatter().format(record))
    assert "\n" not in JsonFormatter().format(record)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning", "logger": "a.b", "message": "it is\nlost", "experiment_id": 7, "attempt_id": 3,
    }  # fmt: skip


async def test_the_dispatcher_logs_with_ids_and_counts(
    start_service: Callable[..., Any], ray: RayStandIn, records: Callable[[], list[dict[str, Any]]]
) -> None:
    service: Running = await start_service(ray, slots=1)
    before = (await samples(service)).get(("adadim_dispatch_seconds_count", ()), 0)
    first, _ = await service.submit(), await service.submit()
    await until(lambda: [r for r in records() if "is Ray job" in r["message"]])
    (record,) = [r for r in records() if "is Ray job" in r["message"]]
    assert record["experiment_id"] == first["id"]
    assert str(record["attempt_id"]) == ray.only_job.environment["ADADIM_ATTEMPT_ID"]
    found = await samples(service)
    assert found["adadim_dispatch_seconds_count", ()] == before + 1
    assert found["adadim_experiments", (("state", "queued"),)] == 1
    assert found["adadim_queue_oldest_seconds", ()] > 0
    assert found["adadim_attempts", (("state", "starting"),)] == 1


# -- traces ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP/HTTP receiver."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert names["service.name"] == "adadim"
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", spans
    server.shutdown()
    server.server_close()


@pytest.fixture
async def serve(tmp_path: Path, ray: RayStandIn, database_url: str) -> AsyncIterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(**environment: str) -> Served:
        started.append(Served(tmp_path, ray, database_url, **environment))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()


async def test_traces_go_from_the_request_to_its_statements_and_from_the_dispatcher_to_ray(
    serve: Callable[..., Served], ray: RayStandIn, collector: tuple[str, list[Span]]
) -> None:
    import signal

    endpoint, spans = collector
    served = serve(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    url = await served.url()
    async with client(url, (served.state / "token").read_text().strip()) as http:
        parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        submitted = await http.post("/api/v1/experiments", content="name: traced", headers=parent)
        experiment_id = submitted.json()["id"]
        assert (await http.get("/api/v1/experiments/4711")).status_code == 404
        await until(lambda: ray.submissions)
    await served.end(signal.SIGTERM)
    by_id = {span.span_id: span for span in spans}

    (request,) = [s for s in spans if s.name == "POST /api/v1/experiments"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (
        "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331",
    )  # fmt: skip
    assert request.kind == Span.SPAN_KIND_SERVER
    statements = [s for s in spans if s.parent_span_id == request.span_id]
    assert {"sql SELECT", "sql WITH"} <= {s.name for s in statements}  # the token, and all of the submission
    assert not [s for s in spans if any("traced" in a.value.string_value for a in s.attributes)]  # no values
    (missing,) = [s for s in spans if s.name == "GET /api/v1/experiments/{experiment_id}"]
    attributes = {a.key: a.value for a in missing.attributes}
    assert attributes["http.response.status_code"].int_value == 404
    assert attributes["adadim.experiment_id"].string_value == "4711"
    assert attributes["adadim.request_id"].string_value

    calls = [s for s in spans if s.name == "ray POST"]
    assert {by_id[s.parent_span_id].name for s in calls} == {"dispatch"}
    dispatch = by_id[calls[0].parent_span_id]
    assert {a.key: a.value.int_value for a in dispatch.attributes} == {"adadim.experiment_id": experiment_id}
    logged = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    assert request.trace_id.hex() in {entry.get("trace_id") for entry in logged}


async def test_without_an_endpoint_no_sdk_is_imported() -> None:
    heavy = ("opentelemetry.sdk", "opentelemetry.exporter")
    code = f"import sys, service.app, service.cli.serve; print([n for n in sys.modules if n.startswith({heavy})])"
    process = await asyncio.create_subprocess_exec(
        __import__("sys").executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().strip() == "[]"


# -- the doctor -----------------------------------------------------------------------------------------------------


async def diagnose(tmp_path: Path, **settings: Any) -> dict[str, list[tuple[bool, str, str]]]:
    found: dict[str, list[tuple[bool, str, str]]] = {}
    for finding in await doctor.examine(make_settings(tmp_path, **settings)):
        found.setdefault(finding.name, []).append((finding.ok, finding.text, finding.remedy))
    return found


async def test_a_healthy_installation_is_all_ok(
    tmp_path: Path, database_url: str, ray: RayStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_MAX_SKEW_S", 60.0)  # what is asked for the time may take long to answer
    found = await diagnose(tmp_path, database_url=database_url, ray_address=ray.address, ray_auth_token=RAY_TOKEN)
    assert all(ok for lines in found.values() for ok, _, _ in lines), found
    assert found.keys() == {
        *("state", "database", "migrations", "database clock", "cluster", "cluster clock", "storage", "service")
    }
    assert "2.60" in found["cluster"][0][1]
    assert not (tmp_path / "state").exists()  # it only looked


async def test_every_part_that_is_broken_is_said_with_what_to_do(
    tmp_path: Path, database_url: str, empty_database_url: str, ray: RayStandIn
) -> None:
    address = {"ray_address": ray.address, "ray_auth_token": "wrong"}
    database = Database(database_url)
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = await diagnose(tmp_path, database_url=database_url, storage=str(blocked / "storage"), **address)
    assert "newer" in found["database"][0][1]
    assert found["cluster"][0][0] is False
    assert "RAY_AUTH_TOKEN" in found["cluster"][0][1]
    assert found["storage"][0][0] is False

    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    await database.close()
    ray.go_away()
    found = await diagnose(tmp_path, database_url=database_url, **address)
    assert "adadim serve" in found["migrations"][0][2]
    assert "RAY_ADDRESS" in found["cluster"][0][2]
    assert (await diagnose(tmp_path, database_url=empty_database_url, **address))["migrations"][0][0] is True

    found = await diagnose(tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none", **address)
    assert found["database"][0][0] is False
    assert "DATABASE_URL" in found["database"][0][2]
    assert "migrations" not in found


async def test_it_says_that_the_service_that_runs_here_stands_on_something_else(
    tmp_path: Path, database_url: str, ray: RayStandIn
) -> None:
    address = {"ray_address": ray.address, "ray_auth_token": RAY_TOKEN}
    (tmp_path / "state").mkdir()
    with recorded(make_settings(tmp_path, database_url=database_url, **address), ray.address):
        assert "settings" not in await diagnose(tmp_path, database_url=database_url, **address)
        (ok, said, remedy), *more = (await diagnose(tmp_path, storage="/other", **address))["settings"]
        assert (ok, more) == (False, [])
        assert f"has DATABASE_URL={read_address(database_url).place}, ADADIM_STORAGE=" in said
        assert "RAY_ADDRESS" not in said
        assert "environment of the service" in remedy
    assert "settings" not in await diagnose(tmp_path, **address)  # none runs


@pytest.mark.slow
async def test_an_embedded_database_is_left_as_it_was(tmp_path: Path, ray: RayStandIn) -> None:
    address = {"ray_address": ray.address, "ray_auth_token": RAY_TOKEN}
    assert (await diagnose(tmp_path, **address))["database"] == [(True, "none yet; `adadim serve` makes one", "")]
    assert not (tmp_path / "state").exists()
    server = EmbeddedPostgres(tmp_path / "state" / "postgres")
    await asyncio.to_thread(server.launch)
    environment = os.environ | {"ADADIM_STATE_DIR": str(tmp_path / "state"), "RAY_ADDRESS": ray.address}
    try:
        for runs in (True, False):
            doctor = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.cli.main", "doctor"), env=environment, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await doctor.communicate()
            assert b"PostgreSQL" in output
            assert server.runs is runs
            await asyncio.to_thread(server.halt)
    finally:
        await asyncio.to_thread(server.halt)
