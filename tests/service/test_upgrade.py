"""Databases of released versions, full, are brought to the newest schema with everything in them.

schemas/NNNN.sql is a dump of a database that version NNNN of the schema held in use: experiments in every state,
lost attempts, failed trials, NaN and infinities among the points. Add one with every release.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from service_harness import Running, add_token, client, make_settings, parts, serving
from sqlalchemy import text

from service.app import attach, create_app
from service.database.engine import Database
from tests.service.test_migrations import differences

DUMPS = sorted((Path(__file__).parent / "schemas").glob("*.sql"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
async def upgraded(request: Any, empty_database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    """The API on a database that was full when it was migrated."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(request.param.read_text())
    await connection.close()
    database = Database(empty_database_url)
    await database.migrate()
    await database.close()
    async with parts(empty_database_url, tmp_path) as context:
        app = create_app(make_settings(tmp_path), "")
        attach(app, context)
        token = await add_token(context.database, "viewer")
        async with serving(app, lifespan=False) as url, client(url, token) as http:
            yield Running(url, app, context, http, token)


async def get(service: Running, path: str, **params: Any) -> Any:
    response = await service.http.get(f"/api/v1{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json() if "json" in response.headers["content-type"] else response.text


async def test_the_schema_is_the_newest_one(upgraded: Running) -> None:
    assert await differences(upgraded.context.database) == []


async def test_nothing_is_lost_and_everything_reads_as_before(upgraded: Running) -> None:
    items = (await get(upgraded, "/experiments"))["items"]
    found = {item["name"]: item for item in items}
    assert {name for name in found if found[name]["state"] == name} >= {"succeeded", "failed", "cancelled", "queued"}
    assert set(found) == {
        "succeeded", "failed", "cancelled", "queued", "running", "starting", "cancelling", "second attempt",
    }  # fmt: skip
    assert {item["owner"] for item in items} == {"ada"}

    done = found["succeeded"]
    assert (done["trials_done"], done["best_trial"], done["best_value"], done["attempt"]) == (3, 1, 0.75, 1)
    assert (await get(upgraded, f"/experiments/{done['id']}"))["spec"]["description"] == "Ä 'quotes' \\ back"
    trials = (await get(upgraded, f"/experiments/{done['id']}/trials"))["items"]
    assert [trial["state"] for trial in trials] == ["failed", "succeeded", "succeeded"]
    assert trials[0]["error"].startswith("RuntimeError: no")
    assert await get(upgraded, f"/experiments/{done['id']}/logs") == "epoch 1\nÄ done\n"
    assert (await get(upgraded, f"/experiments/{found['second attempt']['id']}"))["attempt"] == 2


async def test_every_point_is_there_with_its_value(upgraded: Running) -> None:
    items = {item["name"]: item["id"] for item in (await get(upgraded, "/experiments"))["items"]}

    async def series(name: str) -> dict[tuple[int, str], dict[str, Any]]:
        answer = await get(upgraded, f"/experiments/{items[name]}/metrics", max_points=1000)
        return {(part["trial"], part["metric"]): part for part in answer["series"]}

    done = await series("succeeded")
    assert done.keys() == {(0, "h_r"), (0, "i_rz"), (1, "h_r"), (1, "knn_top1"), (2, "knn_top1")}
    assert done[0, "h_r"]["values"] == [1.5, "NaN", "Infinity", "-Infinity"]
    assert done[0, "h_r"]["steps"] == [1, 2, 3, 4]
    assert done[0, "i_rz"]["times"] == [5000.0, 5001.0]
    assert done[1, "h_r"]["values"] == pytest.approx([k / 7 for k in range(200)], rel=1e-6)
    again = await series("second attempt")
    # Of step 2, measured twice, the value with the later time was kept.
    assert (again[0, "h_r"]["steps"], again[0, "h_r"]["values"]) == ([1, 2, 3], [3.0, 4.0, "NaN"])
    async with upgraded.context.database.connect() as connection:
        tokens = (await connection.execute(text("SELECT count(*) FROM tokens WHERE name LIKE 'a %'"))).scalar_one()
    assert tokens >= 3
