"""The lab's limits hold whichever way a submitter takes: submission, dry run, clone, extension, import."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from service_harness import Running, add_token, client
from sqlalchemy import update

from adadim_core.spec import parse_spec
from service.database.tables import Experiment

PATH = "/api/v1/experiments"
FOUR = "{name: four, search: {trials: 4, space: {training.lr: {uniform: [0.1, 0.5]}}}}"


@pytest.fixture
def limit(service: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets ADADIM_MAX_TRIALS."""

    def set_to(trials: int) -> None:
        monkeypatch.setattr(
            service.context, "settings", service.context.settings.model_copy(update={"max_trials": trials})
        )

    return set_to


def import_of(spec: str, run: str = "a" * 32) -> dict[str, Any]:
    return {"id": run, "spec": json.dumps(parse_spec(spec).model_dump(mode="json"))}


async def test_no_way_leads_around_the_limit_of_trials(service: Running, limit: Callable[[int], None]) -> None:
    experiment = await service.submit(FOUR)
    async with service.context.database.transaction() as session:
        await session.execute(update(Experiment).values(state="succeeded"))
    limit(3)
    seeds = {"name": "again", "search.seeds": 2}
    for way, answer in {
        "submission": await service.http.post(PATH, content=FOUR),
        "dry run": await service.http.post(f"{PATH}?dry_run=true", content=FOUR),
        "clone": await service.http.post(f"{PATH}/{experiment['id']}/clone", json={}),
        "changed clone": await service.http.post(f"{PATH}/{experiment['id']}/clone", json={"changes": seeds}),
        "extension": await service.http.post(f"{PATH}/{experiment['id']}/extend", json={"seeds": 2}),
        "import": await service.http.post(f"{PATH}/import", json=import_of(FOUR)),
    }.items():
        assert answer.status_code == 422, (way, answer.text)
        assert "this service takes at most 3" in answer.json()["detail"], way
    assert len((await service.http.get(PATH)).json()["items"]) == 1
    limit(4)
    assert (await service.http.post(f"{PATH}/import", json=import_of(FOUR))).status_code == 200


async def test_only_admins_go_before_everybody(service: Running) -> None:
    async with client(service.url, await add_token(service.context.database, "admin")) as admin:
        urgent = (await admin.post(f"{PATH}?priority=100", content="name: urgent")).json()
        assert urgent["priority"] == 100
        assert (await admin.post(f"{PATH}/{urgent['id']}/clone", json={})).json()["priority"] == 100
    refused = [
        await service.http.post(f"{PATH}?priority=1", content="name: a"),
        await service.http.post(f"{PATH}?priority=1&dry_run=true", content="name: a"),
        await service.http.post(f"{PATH}/{urgent['id']}/clone", json={"priority": 1}),
    ]
    for answer in refused:
        assert answer.status_code == 403
        assert "takes an admin; give 0 or less" in answer.json()["detail"]
    # What an admin gave is not inherited: else a clone would be the way around.
    assert (await service.http.post(f"{PATH}/{urgent['id']}/clone", json={})).json()["priority"] == 0
    assert (await service.http.post(f"{PATH}?priority=-5", content="name: later")).json()["priority"] == -5


async def test_an_owner_has_so_many_imports_under_way(service: Running) -> None:
    for number in range(8):
        answer = await service.http.post(f"{PATH}/import", json=import_of("name: a", f"{number:032x}"))
        assert answer.status_code == 200
    last = answer.json()["experiment_id"]
    over = await service.http.post(f"{PATH}/import", json=import_of("name: a", "f" * 32))
    assert over.status_code == 429
    assert int(over.headers["retry-after"]) > 0
    assert "cancel" in over.json()["detail"]
    # One of these may be taken up again, and another owner begin.
    again = await service.http.post(f"{PATH}/import", json=import_of("name: a", f"{0:032x}"))
    assert again.json()["experiment_id"] == last - 7
    async with client(service.url, await add_token(service.context.database, "submitter", "grace")) as grace:
        assert (await grace.post(f"{PATH}/import", json=import_of("name: a", "f" * 32))).status_code == 200
    await service.http.post(f"{PATH}/{last}/cancel")
    assert (await service.http.post(f"{PATH}/import", json=import_of("name: a", "f" * 32))).status_code == 200
