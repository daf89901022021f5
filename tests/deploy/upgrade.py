"""The next version beside this one: its migration runs while this one serves, then this one ends, with a sweep running.

The next version is this one with one migration more, which holds the locks that a real one would, for longer.
"""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
from alembic.script import ScriptDirectory

from service.cluster.ports import free_ports
from service.database.engine import alembic_config
from tests.deploy.engine import Engine
from tests.deploy.images import SERVICE
from tests.deploy.lab import PROJECT, Lab, wait_for

NEXT = "localhost/adadim-service:next"
_HEAD = str(ScriptDirectory.from_config(alembic_config()).get_current_head())
_REVISION = f"{int(_HEAD) + 1:04d}"
"""Numbered as all are: a schema with another mark is a stranger's to the service, which lets it be."""
_LOCKED_S = 4
_MIGRATION = '''"""The migration of the next version, for the test of upgrades."""

from alembic import op

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE experiments ADD COLUMN next_version text")
    op.execute("ALTER TABLE trials ADD COLUMN next_version text NOT NULL DEFAULT 'x'")
    op.execute("SELECT pg_sleep({seconds})")
'''


def build_next(engine: Engine) -> None:
    """The image of the next version."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "next.py").write_text(_MIGRATION.format(revision=_REVISION, head=_HEAD, seconds=_LOCKED_S))
        Path(folder, "Dockerfile").write_text(
            f"FROM {SERVICE}\nUSER 0\nCOPY next.py /next.py\n"
            "RUN cd /opt/adadim/lib/python3*/site-packages/service/database/migrations/versions && cp /next.py .\n"
            "USER 1000:1000\n"
        )
        engine.run("build", "--format", "docker", "--quiet", "--tag", NEXT, folder, timeout_s=300)


def upgrade(lab: Lab) -> str:
    """Bring the next version up and take this one down. Returns what was seen, and raises if a request failed."""
    old = lab.container("service")
    (port,) = free_ports(1)
    with _Balancer(lab, {lab.port: old.name, port: f"{PROJECT}_service_next"}) as balancer:
        wait_for(lambda: balancer.answers[200] >= 5, seconds=60, what="the present version to answer")
        began = time.monotonic()
        new = lab.run_service(f"{PROJECT}_service_next", NEXT, port, alias="service")
        wait_until_ready(port, seconds=180, what="the next version")
        took = time.monotonic() - began
        assert lab.sql("SELECT version_num FROM alembic_version") == _REVISION
        both = balancer.by_replica.copy()
        wait_for(
            lambda: all((balancer.by_replica - both)[p] >= 5 for p in (lab.port, port)),
            seconds=60,
            what="both versions to answer after the migration",
        )
        lab.engine.run("stop", old.name, timeout_s=90)
        seen = balancer.answers[200]
        wait_for(lambda: balancer.answers[200] >= seen + 10, seconds=60, what="the next version to answer alone")
    failed = {status: count for status, count in balancer.answers.items() if status != 200}
    assert not failed, f"requests failed during the upgrade: {failed}; {balancer.last_error}"
    lab.port = port
    return (
        f"upgrade beside a running sweep: the next version was ready after {took:.0f} s, its migration held its locks "
        f"for {_LOCKED_S} s; {sum(balancer.answers.values())} requests, none failed, the longest took "
        f"{balancer.longest_s:.1f} s ({new.name})"
    )


def wait_until_ready(port: int, *, seconds: float, what: str) -> None:
    """Wait for a service. Raises AssertionError with its last answer if it is not ready in time."""
    try:
        wait_for(lambda: _readiness(port)[0], seconds=seconds, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}; it says: {_readiness(port)[1]}") from None


def _readiness(port: int) -> tuple[bool, str]:
    """Whether a service is ready, and its answer."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return False, f"{type(error).__name__}: {error}"
    return answer.status_code == 200, f"{answer.status_code} {answer.text}"


class _Balancer:
    """What a load balancer does: it asks replicas whether they are ready, and sends requests to those that said so."""

    def __init__(self, lab: Lab, replicas: dict[int, str]) -> None:
        self.answers: Counter[int] = Counter()
        self.by_replica: Counter[int] = Counter()
        self.longest_s = 0.0
        self.last_error = ""
        self._token, self._replicas = lab.token, replicas
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self._token}"}, timeout=60, trust_env=False) as http:
            while not self._stop.is_set():
                for port in self._ready():
                    self._ask(http, port)
                self._stop.wait(0.05)

    def _ready(self) -> Iterator[int]:
        for port in self._replicas:
            if _readiness(port)[0]:
                yield port

    def _ask(self, http: httpx.Client, port: int) -> None:
        began = time.monotonic()
        try:
            status = http.get(f"http://127.0.0.1:{port}/api/v1/experiments").status_code
        except httpx.HTTPError as error:
            status, self.last_error = 0, f"{type(error).__name__}: {error}"
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.answers[status] += 1
        if status == 200:
            self.by_replica[port] += 1
