"""The service as a process of its own: what it imports, what it leaves behind, what it takes up again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from service_harness import RAY_TOKEN, RayStandIn, Running, Worker, client, take_over_by_http, until
from sqlalchemy import text

from service.cluster import claim as claim_module
from service.cluster.claim import Claim, DatabaseInUse
from service.database.engine import Database

HEAVY = {"torch", "ray", "sklearn", "pandas", "scipy"}

WHOLE_SERVICE = """
import asyncio, json, sys
import httpx
from service.app import create_app
from service.settings import Settings

async def main():
    app = create_app(Settings.from_environ(), "http://127.0.0.1:1")
    async with app.router.lifespan_context(app):
        token = (app.state.context.settings.state_dir / "token").read_text().strip()
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
            async with asyncio.timeout(60):
                while (await http.get("/readyz")).status_code != 200:  # the database may take long to answer
                    await asyncio.sleep(0.1)
            for path in ("/metrics", "/openapi.json", "/", "/api/v1/spec/schema", "/api/v1/experiments"):
                assert (await http.get(path)).status_code == 200, path
            spec = "{name: a, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.2]}}}}"
            assert (await http.post("/api/v1/experiments", content=spec)).status_code == 201

asyncio.run(main())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def environment(tmp_path: Path, ray: RayStandIn, **values: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADADIM_", "RAY_", "DATABASE_"))}
    return kept | {
        "ADADIM_STATE_DIR": str(tmp_path / "state"),
        "ADADIM_PORT": "0",
        "RAY_ADDRESS": ray.address,
        "RAY_AUTH_TOKEN": RAY_TOKEN,
        **values,
    }


async def test_a_whole_service_with_its_own_database_imports_nothing_heavy(tmp_path: Path, ray: RayStandIn) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WHOLE_SERVICE, env=environment(tmp_path, ray), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    modules = set(json.loads(output))
    assert {"fastapi", "sqlalchemy", "adadim_core"} <= modules
    assert not HEAVY & modules
    # its PostgreSQL ended with it
    directory = str(tmp_path / "state" / "postgres")
    assert not [p for p in psutil.process_iter(["cmdline"]) if directory in " ".join(p.info["cmdline"] or [])]


class Served:
    """`adadim serve` as a process; without an address of a database with one of its own."""

    def __init__(self, tmp_path: Path, ray: RayStandIn, database_url: str | None, **values: str) -> None:
        self.state = tmp_path / "state"
        self.log = tmp_path / "serve.log"
        if database_url is not None:
            values["DATABASE_URL"] = database_url
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli.main", "serve"],
                env=environment(tmp_path, ray, **values),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def url(self) -> str:
        async def ready() -> str | None:
            assert self.process.poll() is None, self.log.read_text()
            record = self.state / "service.json"
            if not record.exists() or not record.read_text():
                return None
            found: dict[str, Any] = json.loads(record.read_text())
            if found["pid"] != self.process.pid:
                return None
            async with client(found["url"], None) as http:
                try:
                    return str(found["url"]) if (await http.get("/readyz")).status_code == 200 else None
                except OSError:
                    return None
                except Exception:
                    return None

        url: str = await until(ready, "the service", seconds=240)
        return url

    async def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return await asyncio.to_thread(self.process.wait, 60)


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


async def test_serve_leaves_a_secret_token_and_its_address_and_takes_up_what_ran(
    serve: Callable[[], Served], ray: RayStandIn
) -> None:
    served = serve()
    url = await served.url()
    token_file = served.state / "token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    token = token_file.read_text().strip()
    assert url.startswith("http://127.0.0.1:")

    second = serve()
    assert await asyncio.to_thread(second.process.wait, 60) == 1
    assert "another service uses" in second.log.read_text()

    async with client(url, token) as http:
        experiment = (await http.post("/api/v1/experiments", content="name: kept")).json()
        job = await until(lambda: next(iter(ray.jobs.values()), None))
        assert job.environment["ADADIM_SERVICE_URL"] == url
        path, token_of_job = await asyncio.to_thread(take_over_by_http, url, job)
        worker = {"Authorization": f"Bearer {token_of_job}"}
        assert (await http.post(path, json={}, headers=worker)).json() == {"directive": "continue"}
    assert await served.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert not (served.state / "service.json").exists()
    assert "Traceback" not in served.log.read_text()

    again = serve()
    url = await again.url()
    assert token_file.read_text().strip() == token
    async with client(url, token) as http:
        found = (await http.get(f"/api/v1/experiments/{experiment['id']}")).json()
        assert (found["state"], found["attempt"]) == ("running", 1)
        path = f"{url}/api/v1/attempts/{job.environment['ADADIM_ATTEMPT_ID']}/reports"
        done = await http.post(path, json={"outcome": {"state": "succeeded"}}, headers=worker)
        assert done.status_code == 200
        assert (await http.get(f"/api/v1/experiments/{experiment['id']}")).json()["state"] == "succeeded"
    assert ray.submissions == 1
    assert await again.end(signal.SIGINT) in (0, 130, -signal.SIGINT)


async def test_a_service_told_to_end_drains_and_loses_no_request(
    tmp_path: Path, ray: RayStandIn, database_url: str
) -> None:
    served = Served(tmp_path, ray, database_url, ADADIM_DRAIN_S="600")
    try:
        await _drain(served)
    finally:
        served.process.kill()
        served.process.wait()


async def _drain(served: Served) -> None:
    url = await served.url()
    token = (served.state / "token").read_text().strip()
    async with client(url, token) as http:
        experiment = (await http.post("/api/v1/experiments", content="name: first")).json()

        async def stream() -> str:
            return (await http.get(f"/api/v1/experiments/{experiment['id']}/events")).text

        async def follow() -> str:
            return (await http.get(f"/api/v1/experiments/{experiment['id']}/logs?follow=true")).text

        streams = [asyncio.create_task(stream()), asyncio.create_task(follow())]
        # A request under way when the service is told to end, and beyond the end of the drain.
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /api/v1/experiments HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        writer.write(f"{head}Content-Length: 12\r\n\r\nname: ".encode())
        await writer.drain()
        await asyncio.sleep(0.2)  # for it to arrive; nothing says so

        served.process.send_signal(signal.SIGTERM)

        async def stopping() -> bool:
            answer = await http.get("/readyz")
            return answer.status_code == 503 and answer.json()["status"] == "stopping"

        await until(stopping)
        assert (await http.get("/api/v1/experiments")).status_code == 200  # not ready, but there
        async with asyncio.timeout(60):
            events, _ = await asyncio.gather(*streams)
        assert "event: reconnect" in events

        served.process.send_signal(signal.SIGINT)  # the end of the drain, when all that has been seen

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                return True
            writer.close()
            return False

        await until(refused)
        writer.write(b"second")
        answer = await reader.readuntil(b"\r\n")
        assert b" 201 " in answer
        writer.close()
    assert await asyncio.to_thread(served.process.wait, 60) == 0
    assert "Traceback" not in served.log.read_text()


async def test_a_drain_ends_by_itself(serve: Callable[..., Served]) -> None:
    served = serve(ADADIM_DRAIN_S="0.5")
    await served.url()
    assert await served.end(signal.SIGTERM) == 0
    assert "Traceback" not in served.log.read_text()


async def test_two_services_on_one_database_share_the_work(start_service: Callable[..., Any], ray: RayStandIn) -> None:
    one: Running = await start_service(ray, slots=2)
    ids = [(await one.submit())["id"] for _ in range(3)]
    await until(lambda: len(ray.jobs) == 2)
    assert {(await one.experiment(i))["state"] for i in ids} == {"starting", "queued"}
    for job in list(ray.jobs.values()):
        await Worker.of(one.context, job).report(outcome={"state": "succeeded"})
    await until(lambda: len(ray.jobs) == 3)

    async def ready() -> bool:
        return bool((await one.http.get("/readyz")).json() == {"status": "ok", "database": "ok", "cluster": "ok"})

    await until(ready)


@pytest.mark.slow
async def test_a_service_with_a_local_cluster_does_not_share_its_database(
    serve: Callable[..., Served], ray: RayStandIn, database_url: str
) -> None:
    """Its jobs would run where the others cannot see them."""
    alone = Claim(database_url, shared=False)
    await alone.take()
    refused = serve()
    assert await asyncio.to_thread(refused.process.wait, 60) == 1
    assert "another service uses this database with another Ray cluster" in refused.log.read_text()
    assert "Traceback" not in refused.log.read_text()
    await alone.release()
    sharing = [Claim(database_url, shared=True) for _ in range(2)]
    for claim in sharing:
        await claim.take()
    with pytest.raises(DatabaseInUse):
        await alone.take()
    for claim in sharing:
        await claim.release()
    await alone.take()
    await alone.release()


async def test_a_claim_outlives_the_databases_absence(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(claim_module, "_PATIENCE_S", 0.0)
    claim = Claim(database_url, shared=False)
    await claim.take()
    admin = Database(database_url)

    async def holder() -> int | None:
        async with admin.connect() as connection:
            held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock"
            found = await connection.execute(text(held), {"lock": claim_module._LOCK & 0xFFFFFFFF})
            pid: int | None = found.scalar_one_or_none()
            return pid

    killed = await holder()
    async with admin.connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": killed})

    async def taken_again() -> bool:
        return await holder() not in (None, killed)  # the lock of one that was killed goes a moment later

    await until(taken_again)
    with pytest.raises(DatabaseInUse):
        await Claim(database_url, shared=True).take()
    await claim.release()
    await admin.close()
