"""The list of experiments: search, filters, every order with its pages, counts of trials, and what is waited for."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_harness import Running
from sqlalchemy import text, update

from service.database.tables import Attempt, Experiment, Trial

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SORTS = ("id", "name", "owner", "state", "trials", "best", "duration")


async def names(service: Running, **params: Any) -> list[str]:
    answer = await service.http.get("/api/v1/experiments", params=params)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


async def change(service: Running, table: type, number: int, **values: Any) -> None:
    async with service.context.database.transaction() as session:
        await session.execute(update(table).where(table.id == number).values(**values))


async def add(service: Running, rows: list[dict[str, Any]]) -> None:
    """Experiments as rows, in order."""
    async with service.context.database.transaction() as session:
        await session.execute(text("TRUNCATE experiments RESTART IDENTITY CASCADE"))
        for row in rows:
            values = {"owner": "ada", "spec": {}, "spec_text": "", "metric": "h_r", "mode": "max", "trial_count": 1}
            session.add(Experiment(**(values | row)))
            await session.flush()


async def test_text_is_found_in_name_description_owner_and_labels(service: Running) -> None:
    await service.submit("{name: plain, description: Ablation of gamma 100%}")
    await service.submit("{name: Labelled, labels: {project: adadim-paper}}")
    await service.submit("{name: other_one}")
    assert await names(service, q="ABLATION") == ["plain"]
    assert await names(service, q="label") == ["Labelled"]
    assert await names(service, q="paper") == ["Labelled"]
    assert await names(service, q="ada") == ["other_one", "Labelled", "plain"]  # whose they are
    assert await names(service, q="2") == ["Labelled"]
    assert await names(service, q="#3") == ["other_one"]
    # No wildcards: what is typed is what is looked for.
    assert await names(service, q="100%") == ["plain"]
    assert await names(service, q="r_o") == ["other_one"]
    assert await names(service, q="p%n") == []


async def test_labels_states_and_owners_filter(service: Running) -> None:
    await service.submit("{name: a, labels: {project: x, stage: pilot}}")
    await service.submit("{name: b, labels: {project: y=z}}")
    third = await service.submit("{name: c}")
    await change(service, Experiment, third["id"], state="failed", owner="bob")
    assert await names(service, label="project=x") == ["a"]
    assert await names(service, label="project=y=z") == ["b"]
    assert await names(service, label="project") == ["b", "a"]
    assert await names(service, label=["project=x", "stage=pilot"]) == ["a"]
    assert await names(service, label=["project=x", "stage=final"]) == []
    assert await names(service, state=["failed", "running"]) == ["c"]
    assert await names(service, owner="bob") == ["c"]
    assert await names(service, owner="bob", label="project") == []
    shown = (await service.http.get("/api/v1/experiments", params={"label": "project=x"})).json()["items"][0]
    assert shown["labels"] == {"project": "x", "stage": "pilot"}
    assert (await service.experiment(shown["id"]))["labels"] == shown["labels"]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries({
            "name": st.sampled_from(["b", "B", "a", "ä", "c"]),
            "state": st.sampled_from(["queued", "running", "succeeded"]),
            "trial_count": st.integers(1, 3),
            "best_value": st.none() | st.sampled_from([-1.0, 0.5, 0.25]),
            "started_at": st.none() | st.sampled_from([BEGAN, BEGAN + timedelta(hours=1)]),
            "ended_at": st.none() | st.just(BEGAN + timedelta(hours=2)),
        }),
        min_size=1, max_size=7,
    ),
    sort=st.sampled_from([*SORTS, *(f"-{name}" for name in SORTS)]),
    size=st.integers(1, 3),
)  # fmt: skip
async def test_the_pages_of_every_order_are_the_whole(
    service: Running, rows: list[dict[str, Any]], sort: str, size: int
) -> None:
    await add(service, rows)
    whole = (await service.http.get("/api/v1/experiments", params={"sort": sort})).json()
    assert whole["next_cursor"] is None
    pages: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await service.http.get("/api/v1/experiments", params={"sort": sort, "limit": size, **cursor})).json()
        pages += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == size
        cursor = {"cursor": page["next_cursor"]}
    assert [item["id"] for item in pages] == [item["id"] for item in whole["items"]]
    assert sorted(item["id"] for item in pages) == list(range(1, len(rows) + 1))
    if sort.removeprefix("-") == "best":  # those without a value last, either way
        values = [item["best_value"] for item in pages]
        present = [value for value in values if value is not None]
        assert values == sorted(present, reverse=sort.startswith("-")) + [None] * values.count(None)


@pytest.mark.parametrize("cursor", ["MTI=", "bnVsbA==", "W10=", "WyJpZCIsICJhIiwgMSwgMF0=", "_", "-" * 900])
async def test_a_cursor_from_elsewhere_is_refused(service: Running, cursor: str) -> None:
    answer = await service.http.get("/api/v1/experiments", params={"cursor": cursor, "sort": "id"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "cursor"


async def test_trials_are_counted_by_state(service: Running) -> None:
    spec = "{name: a, search: {algorithm: grid, space: {training.seed: {choice: [1, 2, 3]}}}}"
    experiment = await service.submit(spec)
    trials = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/trials")).json()["items"]
    for trial, state in zip(trials, ("succeeded", "failed", "failed"), strict=True):
        await change(service, Trial, trial["id"], state=state)
    shown = (await service.http.get("/api/v1/experiments")).json()["items"][0]
    assert shown["trial_states"] == {"succeeded": 1, "failed": 2}
    assert (await service.experiment(experiment["id"]))["trial_states"] == shown["trial_states"]


async def running(service: Running, spec: str, *, for_s: float, trial: str) -> int:
    """An experiment whose attempt reports for so long, with its trial in that state."""
    number: int = (await service.submit(spec))["id"]
    await change(service, Experiment, number, state="running", attempt=1)
    since = datetime.now(UTC) - timedelta(seconds=for_s)
    async with service.context.database.transaction() as session:
        session.add(
            Attempt(experiment_id=number, number=1, submission_id=f"j{number}", token_hash=b"", started_at=since)
        )
        await session.execute(update(Trial).where(Trial.experiment_id == number).values(state=trial))
    return number


async def test_a_run_without_a_trial_says_what_it_waits_for_and_who_holds_it(service: Running) -> None:
    holder = await running(service, "{name: holder}", for_s=300, trial="running")
    wide = "{name: wide, resources: {workers: 2, cpus_per_worker: 2, gpus_per_worker: 1}}"
    waits = await running(service, wide, for_s=300, trial="pending")
    begins = await running(service, "{name: begins}", for_s=2, trial="pending")
    assert (await service.experiment(waits))["waiting"] == {
        "position": None,
        "reason": f"waits for 4 CPUs and 2 GPUs, held by #{holder}",
    }
    assert (await service.experiment(holder))["waiting"] is None
    assert (await service.experiment(begins))["waiting"] is None  # its first trial is starting
    await change(service, Experiment, holder, state="succeeded")
    async with service.context.database.transaction() as session:
        await session.execute(update(Trial).where(Trial.experiment_id == holder).values(state="succeeded"))
    assert (await service.experiment(waits))["waiting"] is None  # nobody holds anything


@pytest.mark.parametrize(
    ("labels", "pointer"),
    [
        ({"": "x"}, "/labels"),
        ({"a b": "x"}, "/labels"),
        ({"project": ""}, "/labels/project"),
        ({"project": "x\n"}, "/labels/project"),
        ({"project": 7}, "/labels/project"),
        ({"project": "x" * 61}, "/labels/project"),
        ({f"key{n}": "x" for n in range(17)}, "/labels"),
    ],
)
async def test_labels_are_bounded(service: Running, labels: dict[str, Any], pointer: str) -> None:
    answer = await service.http.post("/api/v1/experiments", content=json.dumps({"name": "a", "labels": labels}))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
