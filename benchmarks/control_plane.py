"""The control plane's figures: submissions at a steady rate, one Idempotency-Key at once, a long queue.

    .venv/bin/python benchmarks/control_plane.py [--rate 100] [--seconds 20] [--queued 10000]

Starts a service with an embedded PostgreSQL in a temporary state directory; the load comes from this process, on the
same machine. No Ray is needed: what is submitted waits in the queue. Beside the times it gives the processor time that
service and database spent, which does not depend on what else the machine does.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from machine import describe
from metrics_load import answer
from processor_time import spent
from sqlalchemy import text

from service.database.engine import Database
from service.queue import repository as queue

SPEC = b"""\
name: four weightings
training: {epochs: 25, optimizer: adamw, lr: 0.002}
search:
  algorithm: grid
  space:
    objective.weighting:
      choice:
        - {policy: fixed, alpha: 0.0}
        - {policy: fixed, alpha: 0.5}
        - {policy: fixed, alpha: 1.0}
        - {policy: adaptive}
"""
PATH = "/api/v1/experiments"


class Cpu:
    """Processor time of the service and its database since `start`."""

    def __init__(self, state: Path) -> None:
        self._postgres = state / "postgres"
        self._service = int(json.loads((state / "service.json").read_text())["pid"])

    def start(self) -> None:
        self._before = spent([self._service], self._postgres)

    def shown(self, count: int) -> str:
        return (spent([self._service], self._postgres) - self._before).shown(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=100, help="submissions a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--queued", type=int, default=10_000)
    options = parser.parse_args()
    print(describe("fastapi", "sqlalchemy", "asyncpg"))
    print(f"load at the start: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="adadim-bench-") as directory:
        environment = os.environ | {
            "ADADIM_STATE_DIR": directory,
            "ADADIM_PORT": "0",
            "RAY_ADDRESS": "http://127.0.0.1:9",  # nobody: experiments stay queued
            "ADADIM_SLOTS": "1",
        }
        with (Path(directory) / "service.log").open("wb") as log:
            command = [sys.executable, "-m", "service.cli.main", "serve"]
            service = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            asyncio.run(_measure(Path(directory), options))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)


async def _measure(state: Path, options: argparse.Namespace) -> None:
    url, token = await _ready(state)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/yaml"}
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    cpu = Cpu(state)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120, trust_env=False) as http:
        await _submit(url, token, cpu, options.rate, options.seconds)
        await _race(http)
        database = Database(f"postgresql://postgres@/postgres?host={quote(str(state / 'postgres'))}")
        await _fill(database, options.queued)
        await _list(http, cpu, options.queued)
        await _choose(database, cpu, options.queued)
        await database.close()


async def _submit(url: str, token: str, cpu: Cpu, rate: int, seconds: int) -> None:
    """An open loop: each submission starts at its time, however long the others take. The first second is no part."""
    port, spec = int(url.rpartition(":")[2]), SPEC
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/yaml\r\nContent-Length: {len(spec)}\r\n\r\n"
    )
    request = head.encode() + spec
    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(due: float) -> tuple[float, int]:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        # Raw HTTP: a comfortable client takes more of the two cores than the service.
        connection = connections.pop() if connections else await asyncio.open_connection("127.0.0.1", port)
        connection[1].write(request)
        status = await answer(connection[0])
        connections.append(connection)
        return time.perf_counter() - due, status

    async def submit_for(seconds: int) -> list[tuple[float, int]]:
        began = time.perf_counter() + 0.1
        return await asyncio.gather(*(one(began + number / rate) for number in range(rate * seconds)))

    await submit_for(1)  # connections, threads, caches
    cpu.start()
    answers = await submit_for(seconds)
    times = sorted(took for took, _ in answers)
    errors = sum(status != 201 for _, status in answers)
    print(f"submitting {rate} a second for {seconds} s (wanted: p99 under 50 ms, no error):")
    print(f"  {_shown(times)}, {errors} errors; {cpu.shown(len(times))}")
    for _, writer in connections:
        writer.close()


async def _race(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "race"}
    answers = await asyncio.gather(*(http.post(PATH, content="name: race", headers=headers) for _ in range(50)))
    other = await http.post(PATH, content="name: other", headers=headers)
    same = len({answer.text for answer in answers})
    print(f"one key 50 times at once: {same} different answer(s); with another body: {other.status_code}")


async def _list(http: httpx.AsyncClient, cpu: Cpu, queued: int) -> None:
    times = []
    cpu.start()
    for _ in range(100):
        started = time.perf_counter()
        answer = await http.get(PATH, params={"limit": 50})
        times.append(time.perf_counter() - started)
        assert answer.json()["items"][0]["waiting"]
    print(f"first page of the list with {queued} queued (wanted: p95 under 100 ms):")
    print(f"  {_shown(sorted(times))}; {cpu.shown(100)}")


async def _choose(database: Database, cpu: Cpu, queued: int) -> None:
    times = []
    cpu.start()
    for _ in range(100):
        started = time.perf_counter()
        async with database.transaction() as session:
            assert len(await queue.next_ids(session, 4, 100)) == 4
        times.append(time.perf_counter() - started)
    print(f"choosing the next of {queued} queued (wanted: under 50 ms):")
    print(f"  {_shown(sorted(times))}; {cpu.shown(100)}")


async def _fill(database: Database, queued: int) -> None:
    """As many queued experiments of 20 owners and 3 priorities, each with the spec of one that was submitted."""
    async with database.transaction() as session:
        await session.execute(text("UPDATE experiments SET state = 'cancelled', due_at = NULL WHERE state = 'queued'"))
        await session.execute(
            text("""
                INSERT INTO experiments (name, owner, spec, spec_text, metric, mode, trial_count, priority)
                SELECT 'queued', 'owner-' || n % 20, spec, spec_text, metric, mode, trial_count, n % 3
                FROM generate_series(1, :queued) AS n, (SELECT * FROM experiments ORDER BY id LIMIT 1) AS first
            """),
            {"queued": queued},
        )
    async with database.transaction() as session:
        await session.execute(text("ANALYZE experiments"))


async def _ready(state: Path) -> tuple[str, str]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            record: dict[str, Any] = json.loads((state / "service.json").read_text())
            async with httpx.AsyncClient(base_url=record["url"], trust_env=False) as http:
                if (await http.get("/readyz")).status_code == 200:
                    return record["url"], (state / "token").read_text().strip()
        except (OSError, ValueError, httpx.HTTPError):
            pass
        await asyncio.sleep(0.2)
    raise SystemExit("the service did not start")


def _shown(times: list[float]) -> str:
    def at(share: float) -> float:
        return 1000 * times[min(int(share * len(times)), len(times) - 1)]

    median = 1000 * statistics.median(times)
    return f"median {median:.1f} ms, p95 {at(0.95):.1f} ms, p99 {at(0.99):.1f} ms, max {1000 * times[-1]:.1f} ms"


if __name__ == "__main__":
    main()
