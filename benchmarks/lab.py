"""A PostgreSQL, one or more service processes on it without a cluster, and the means to measure them."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from metrics_load import Target
from processor_time import ProcessorTime, spent
from sqlalchemy import text

from service.attempts import repository as attempts
from service.cluster.ports import free_ports
from service.database.embedded import EmbeddedPostgres
from service.database.engine import Database
from service.database.tables import Experiment
from service.secret import hash_token, new_token


class Bench:
    """A PostgreSQL, services, and what was measured. The first service is the one that is asked for things."""

    def __init__(self, directory: Path, scale: float = 1.0, replicas: int = 1) -> None:
        self.directory, self.scale = directory, scale
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.failed: list[str] = []
        self.ports = free_ports(replicas)
        self.port = self.ports[0]

    async def start(self) -> None:
        self._url = await self.postgres.start()
        self.database = Database(self._url)
        self.services = []
        for port in self.ports:  # one after the other: the first migrates
            self.services.append(self._service(port))
            await _answers(port)
        self.service = self.services[0]
        self.token = (self.directory / f"state-{self.port}" / "token").read_text().strip()
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=120, trust_env=False,
            headers={"Authorization": f"Bearer {self.token}", "Accept-Encoding": "identity"},
        )  # fmt: skip

    def _service(self, port: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "ADADIM_STATE_DIR": str(self.directory / f"state-{port}"), "ADADIM_PORT": str(port),
            "DATABASE_URL": self._url, "RAY_ADDRESS": "http://127.0.0.1:9", "ADADIM_REPORT_RATE": "1000000",
            "ADADIM_REQUEST_RATE": "1000000",
        }  # fmt: skip
        with (self.directory / "service.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "service.cli.main", "serve"], stdout=log, stderr=log, env=environment
            )

    async def crash(self) -> None:
        """Kill the services and their PostgreSQL without a chance to tidy up."""
        for service in self.services:
            service.kill()
            service.wait()
        await self.close()
        # One dead backend makes PostgreSQL drop all the others and recover from its log, as after a crash of its own.
        postmaster = psutil.Process(int((self.directory / "postgres" / "postmaster.pid").read_text().split()[0]))
        max(postmaster.children(), key=lambda child: child.create_time()).kill()

    async def close(self) -> None:
        await self.http.aclose()
        await self.database.close()

    async def stop(self) -> None:
        for service in self.services:
            service.send_signal(signal.SIGTERM)
        for service in self.services:
            service.wait(60)
        await self.close()
        await self.postgres.stop()

    async def experiment(self, trials: int, port: int | None = None) -> tuple[int, Target]:
        """An experiment with an open attempt that reports to the service at `port`."""
        spec = f"{{name: bench, search: {{trials: {trials}, space: {{training.lr: {{uniform: [0.1, 0.5]}}}}}}}}"
        answer = await self.http.post("/experiments", content=spec, headers={"Content-Type": "application/yaml"})
        assert answer.status_code == 201, answer.text
        number, token = answer.json()["id"], new_token()
        async with self.database.transaction() as session:
            attempt = await attempts.add(
                session, experiment_id=number, number=100, submission_id=f"bench-{number}", token_hash=hash_token(token)
            )
            experiment = await session.get_one(Experiment, number, with_for_update=True)
            # Taken out of the dispatcher's hands: what it may have begun is void, for it has not this attempt's number.
            experiment.state, experiment.attempt, experiment.due_at = "starting", 100, None
            experiment.lock_token = experiment.lock_expires_at = None
        return number, Target(port or self.port, attempt.id, token)

    def say(self, what: str, value: float, unit: str, *, least: float | None = None, most: float | None = None) -> None:
        """Print a figure, and what is wanted of it."""
        wanted = "" if least is None and most is None else f"   (wanted: {'at least' if most is None else 'at most'} "
        wanted += f"{least if most is None else most:,g} {unit})" if wanted else ""
        good = (least is None or value >= least) and (most is None or value <= most)
        if not good:
            self.failed.append(what)
        print(f"{'  ' if good else '! '}{what}: {value:,.{1 if value >= 10 else 2}f} {unit}{wanted}", flush=True)

    def spent(self) -> ProcessorTime:
        """Processor time of all services and the database so far."""
        return spent([service.pid for service in self.services], self.directory / "postgres")

    def processor_s(self) -> float:
        """Processor time the services have taken so far."""
        return self.spent().service

    async def counted(self, metric: str) -> float:
        """A metric of the service's /metrics."""
        exposition = (await self.http.get(f"http://127.0.0.1:{self.port}/metrics")).text
        found = re.search(rf"^{metric} (\S+)$", exposition, re.MULTILINE)
        assert found, metric
        return float(found[1])

    async def scalar(self, sql: str, **values: Any) -> Any:
        async with self.database.transaction() as session:
            return (await session.execute(text(sql), values)).scalar_one()


async def _answers(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(trust_env=False) as client:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
        await asyncio.sleep(0.1)
    raise SystemExit("the service did not start")
