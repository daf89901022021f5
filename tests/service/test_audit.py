"""The audit: who did what, to what, when. Nothing changes it, and deletion leaves it."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from dispatch_harness import act, dispatching, submitted
from service_harness import RayStandIn, Running, Worker, add_token, client, queue, until
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from test_command_line import Adadim, adadim, refused

from service.audit.retention import Retention
from service.auth.admin_token import ensure_admin_token
from service.context import Context
from service.database.audit import LEAST_DAYS
from service.database.engine import Database
from service.database.tables import Audit, Experiment

__all__ = ["adadim"]
PATH = "/api/v1/audit"


@pytest.fixture
async def root(service: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An admin, and an audit with nothing in it: only a superuser without triggers can do that."""
    async with service.context.database.transaction() as session:
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        await session.execute(text("DELETE FROM audit"))
    async with client(service.url, await add_token(service.context.database, "admin", "root")) as http:
        yield http


async def entries(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await http.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Who did what to whom, oldest first."""
    return [(e["by"], e["action"], e["subject"]) for e in reversed(found)]


async def test_every_action_is_written_down_with_who_did_it(service: Running, root: httpx.AsyncClient) -> None:
    number = (await service.submit("{name: mine, labels: {a: b}}"))["id"]
    path = f"/api/v1/experiments/{number}"
    for action in ("pause", "pause", "resume"):  # the second pause does nothing, and nothing is written of it
        await service.http.post(f"{path}/{action}")
    await root.post(f"{path}/cancel")
    copy = (await service.http.post(f"{path}/clone", json={})).json()
    assert told(await entries(root)) == [
        ("ada", "experiment.submitted", "mine"),
        ("ada", "experiment.paused", "mine"),
        ("ada", "experiment.queued", "mine"),
        ("root", "experiment.cancelling", "mine"),
        ("ada", "experiment.submitted", "mine"),
    ]
    cloned, cancelled, *_ = await entries(root)
    assert cloned["experiment_id"] == copy["id"]
    assert cloned["details"] == {"trials": 1, "priority": 0, "reason": f"clone of experiment {number}"}
    assert cancelled["details"] == {"from": "queued", "attempt": 0, "reason": "cancelled by root"}
    assert abs(datetime.fromisoformat(cancelled["at"]) - datetime.now(UTC)) < timedelta(minutes=5)


async def test_tokens_and_sessions_are_written_down_without_their_values(
    service: Running, root: httpx.AsyncClient
) -> None:
    made = (await root.post("/api/v1/tokens", json={"name": "carol", "role": "viewer", "expires_in_days": 7})).json()
    async with client(service.url, None) as http:
        await http.post("/api/v1/session", json={"token": made["token"]})
    await root.delete(f"/api/v1/tokens/{made['id']}")
    found = await entries(root)
    assert told(found) == [
        ("root", "token.created", "carol"), ("carol", "session.opened", "carol"), ("root", "token.revoked", "carol"),
    ]  # fmt: skip
    assert all(entry["details"]["token_id"] == made["id"] for entry in found)
    assert found[-1]["details"]["expires_at"].startswith(made["expires_at"][:19])
    assert made["token"] not in json.dumps(found)


async def test_a_deleted_experiment_leaves_its_essentials(context: Context, ray: RayStandIn) -> None:
    experiment_id = await queue(context)
    async with dispatching(context):
        await submitted(context, experiment_id)
        await Worker.of(context, ray.only_job).report(outcome={"state": "succeeded"})
        ray.end(ray.only_job, "SUCCEEDED")
        await act(context, "delete", experiment_id)

        async def gone() -> bool:
            async with context.database.transaction() as session:
                return await session.get(Experiment, experiment_id) is None

        await until(gone)
    async with context.database.transaction() as session:
        query = select(Audit).where(Audit.experiment_id == experiment_id).order_by(Audit.id)
        found = (await session.scalars(query)).all()
    assert [(e.by, e.action) for e in found] == [
        ("someone", "experiment.submitted"), ("dispatcher", "experiment.starting"), ("worker", "experiment.starting"),
        ("worker", "experiment.running"), ("worker", "experiment.succeeded"), ("someone", "experiment.deleting"),
        ("dispatcher", "experiment.removed"),
    ]  # fmt: skip
    kept = found[-1].details
    assert (kept["owner"], kept["attempts"], kept["trials"]) == ("someone", 1, 3)
    assert kept["created_at"] <= kept["ended_at"]
    assert len(kept["spec_sha256"]) == 64


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET by = 'nobody'",
        "UPDATE audit SET at = now() - interval '10 years'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "TRUNCATE experiments, audit CASCADE",
        # Even retention removes nothing that is young.
        "SELECT set_config('adadim.audit_retention', 'on', true); DELETE FROM audit",
    ],
)
async def test_the_database_refuses_to_change_it(database: Database, statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO audit (by, action, subject, details) VALUES ('a', 'b', 'c', '{}')"))
    with pytest.raises(DBAPIError, match="the audit is append-only"):
        await _run(database, statement)
    async with database.transaction() as session:
        assert [row.by for row in await session.scalars(select(Audit))] == ["a"]


async def _run(database: Database, statements: str) -> None:
    async with database.transaction() as session:
        for statement in statements.split(";"):
            await session.execute(text(statement))


async def test_what_is_not_written_down_is_not_done(service: Running, root: httpx.AsyncClient) -> None:
    """The audit is part of the transaction: an action that cannot be written down changes nothing."""
    number = (await service.submit())["id"]
    async with service.context.database.transaction() as session:
        await session.execute(
            text("ALTER TABLE audit ADD CONSTRAINT no_pause CHECK (action <> 'experiment.paused') NOT VALID")
        )
    try:
        assert (await service.http.post(f"/api/v1/experiments/{number}/pause")).status_code == 500
        assert (await service.experiment(number))["state"] == "queued"
    finally:
        async with service.context.database.transaction() as session:
            await session.execute(text("ALTER TABLE audit DROP CONSTRAINT no_pause"))


async def test_retention_removes_what_is_older_and_nothing_else(database: Database) -> None:
    now = datetime.now(UTC)
    async with database.transaction() as session:
        session.add_all(
            Audit(by=str(days), action="a", subject="s", details={}, at=now - timedelta(days=days))
            for days in (400, 366, 364, LEAST_DAYS + 1, 1)
        )
    retention = Retention(database, 365.0)
    await retention.prune()
    async with database.transaction() as session:
        assert [row.by for row in await session.scalars(select(Audit).order_by(Audit.id))] == ["364", "31", "1"]
    await Retention(database, LEAST_DAYS).prune()
    async with database.transaction() as session:
        assert [row.by for row in await session.scalars(select(Audit).order_by(Audit.id))] == ["1"]


async def test_filters_and_pages_hold_every_entry_once(service: Running, root: httpx.AsyncClient) -> None:
    numbers = [(await service.submit(f"name: n{k}"))["id"] for k in range(5)]
    await root.post(f"/api/v1/experiments/{numbers[0]}/pause")
    await root.post("/api/v1/tokens", json={"name": "carol", "role": "viewer"})
    everything = await entries(root)
    assert len(everything) == 7
    found, cursor = [], None
    while True:
        page = (await root.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == everything
    assert {e["by"] for e in await entries(root, by="root")} == {"root"}
    assert len(await entries(root, by="root")) == 2
    assert told(await entries(root, action="token")) == [("root", "token.created", "carol")]
    assert [e["action"] for e in await entries(root, experiment=numbers[0])] == [
        "experiment.paused", "experiment.submitted",
    ]  # fmt: skip
    assert await entries(root, action="_oken") == [], "no wildcards"
    at = everything[3]["at"]
    assert await entries(root, since=at) == everything[:4]
    assert await entries(root, until=at) == everything[4:]
    assert (await root.get(PATH, params={"since": "2026-01-01T00:00:00"})).status_code == 422, "a time without its zone"


async def test_an_admin_s_first_token_is_in_the_audit(database: Database, tmp_path: Any) -> None:
    await ensure_admin_token(database, tmp_path / "token")
    async with database.transaction() as session:
        (entry,) = await session.scalars(select(Audit))
    assert (entry.by, entry.action, entry.subject) == ("service", "token.created", "admin")


async def test_the_command_shows_it(
    adadim: Adadim,
    service: Running,
    root: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = (await service.submit("name: shown"))["id"]
    await root.post(f"/api/v1/experiments/{number}/pause")
    refused(await adadim("audit"), "takes the role admin")
    monkeypatch.setenv("ADADIM_TOKEN", root.headers["authorization"].removeprefix("Bearer "))
    shown = await adadim("audit")
    assert shown.exit_code == 0, shown.output
    head, first, second = [line for line in shown.output.splitlines() if not line.startswith(" ")]
    assert head.startswith("time (")
    assert f"ada  experiment.submitted {number} (shown)" in first
    assert f"root  experiment.paused {number} (shown)" in second
    assert (await adadim("audit", "--by", "nobody")).output == "Nothing was done that fits.\n"
    only = json.loads((await adadim("audit", "--json", "--experiment", str(number), "--limit", "1")).output)
    assert [entry["action"] for entry in only] == ["experiment.paused"]
    assert json.loads((await adadim("audit", "--json", "--since", "2999-01-01")).output) == []
