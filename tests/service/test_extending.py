"""Extending an ended sweep: the trials it lacks are planned in the same experiment, those there stay as they are."""

import asyncio
import json
from typing import Any

import pytest
from service_harness import Running
from sqlalchemy import func, select

from service.database.tables import Experiment, Trial

PATH = "/api/v1/experiments"
SWEEP = "{name: a, training: {seed: 3}, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.2]}}}}"


async def ended(service: Running, spec: str = SWEEP, *states: str) -> dict[str, Any]:
    """A sweep that has ended, its trials in these states."""
    experiment = await service.submit(spec)
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, experiment["id"])
        row.state, row.attempt, row.ended_at, row.trials_done = "succeeded", 1, func.now(), row.trial_count
        rows = (await session.scalars(select(Trial).order_by(Trial.number))).all()
        for trial, state in zip(rows, states or ["succeeded"] * len(rows), strict=True):
            trial.state, trial.epoch, trial.latest = state, 5, {"knn_top1": {"step": 9, "time": 0.0, "value": 0.5}}
    return experiment


async def extend(service: Running, experiment: dict[str, Any], **body: Any) -> Any:
    return await service.http.post(f"{PATH}/{experiment['id']}/extend", json=body)


async def trials(service: Running, experiment: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await service.http.get(f"{PATH}/{experiment['id']}/trials")).json()["items"]
    return found


async def test_more_seeds_add_trials_behind_those_there_are(service: Running) -> None:
    experiment = await ended(service)
    before = await trials(service, experiment)
    answer = (await extend(service, experiment, seeds=3)).json()
    assert (answer["state"], answer["trial_count"], answer["trials_done"], answer["ended_at"]) == ("queued", 6, 2, None)
    after = await trials(service, experiment)
    assert [trial["number"] for trial in after] == list(range(6))
    assert [trial["state"] for trial in after] == ["succeeded"] * 2 + ["pending"] * 4
    assert [trial["params"]["training.seed"] for trial in after] == [3, 3, 4, 4, 5, 5]
    assert [trial["params"]["training.lr"] for trial in after] == [
        trial["params"]["training.lr"] for trial in before
    ] * 3
    for old, new in zip(before, after, strict=False):
        assert new["label"] == f"{old['label']}, seed 3", "what tells it from its siblings"
        assert {**new, "params": old["params"], "label": old["label"]} == old, "a finished trial was changed"
    stored = await service.experiment(experiment["id"])
    assert stored["spec"]["search"]["seeds"] == json.loads(stored["spec_text"])["search"]["seeds"] == 3
    history = (await service.http.get(f"{PATH}/{experiment['id']}/history")).json()["items"]
    assert history[-1]["reason"] == "extended by ada to 2 configurations x 3 seeds = 6 trials"


async def test_trials_that_did_not_finish_are_taken_up_again(service: Running) -> None:
    experiment = await ended(service, SWEEP, "succeeded", "failed")
    assert (await extend(service, experiment, seeds=2)).status_code == 200
    assert [trial["state"] for trial in await trials(service, experiment)] == [
        "succeeded", "interrupted", "pending", "pending",
    ]  # fmt: skip


async def test_more_configurations_where_there_is_one_seed(service: Running) -> None:
    experiment = await ended(service)
    before = await trials(service, experiment)
    assert (await extend(service, experiment, trials=4)).json()["trial_count"] == 4
    after = await trials(service, experiment)
    assert after[:2] == before
    assert "training.seed" not in after[3]["params"]


async def test_a_race_is_extended_to_more_seeds_at_most(service: Running) -> None:
    race = "scheduler: {name: race}, seeds: {first: 2, most: 3}"
    experiment = await ended(service, SWEEP.replace("trials: 2", f"trials: 2, {race}"))
    assert (await extend(service, experiment, seeds=5)).json()["trial_count"] == 10
    assert (await service.experiment(experiment["id"]))["spec"]["search"]["seeds"] == {"first": 2, "most": 5}


@pytest.mark.parametrize(
    ("spec", "body", "said"),
    [
        ("name: a", {"seeds": 5}, "a single run cannot be extended"),
        (SWEEP.replace("trials: 2", "trials: 2, seeds: 3"), {"seeds": 2}, "its trials would not keep their numbers"),
        (SWEEP.replace("trials: 2", "trials: 2, seeds: 3"), {"trials": 4}, "its trials would not keep their numbers"),
        (SWEEP.replace("space: {", "space: {training.seed: {integer: [0, 9]}, "), {"seeds": 2}, "lists training.seed"),
        (SWEEP, {"seeds": 501}, "2 configurations x 501 seeds are more than 1000 trials"),
        (SWEEP, {"seeds": [4, 5]}, "its trials would not keep their numbers"),
    ],
)
async def test_what_cannot_be_extended_so_is_told_why(
    service: Running, spec: str, body: dict[str, Any], said: str
) -> None:
    experiment = await ended(service, spec)
    answer = await extend(service, experiment, **body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert (await service.experiment(experiment["id"]))["state"] == "succeeded"


async def test_two_that_extend_at_once_extend_once(service: Running) -> None:
    experiment = await ended(service)
    answers = await asyncio.gather(*(extend(service, experiment, seeds=seeds) for seeds in (2, 3, 2, 3)))
    changed = [answer for answer in answers if answer.status_code == 200 and answer.json()["changed"]]
    assert len(changed) == 1
    assert len(await trials(service, experiment)) == changed[0].json()["trial_count"]


async def test_what_it_has_already_is_no_change(service: Running) -> None:
    experiment = await ended(service)
    answer = (await extend(service, experiment, seeds=1)).json()
    assert (answer["state"], answer["changed"]) == ("succeeded", False)
    assert "has 2 configurations x 1 seed = 2 trials; nothing was done" in answer["message"]


async def test_its_only_seed_named_as_a_list_is_no_change(service: Running) -> None:
    experiment = await ended(service)
    answer = await extend(service, experiment, seeds=[3])
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["changed"]) == ("succeeded", False)
    assert answer.json()["message"].endswith("nothing was done.")
