"""The life cycle's tables, and the actions on experiments over HTTP: what each does in every state, twice the same."""

import asyncio
import json
import threading
from typing import Any, get_args

import pytest
from service_harness import Running, add_token, client, queue
from sqlalchemy import func, select

from adadim_core.spec import MAX_SPEC_BYTES, ExperimentSpec, validate_spec
from adadim_core.spec.presets import PRESETS, Preset
from service.actions import service as actions
from service.context import Context
from service.database.tables import Experiment, Transition, Trial
from service.experiments import service as experiments
from service.experiments.lifecycle import ACTIONS, TRANSITIONS, Facts, IllegalTransition, check_transition
from service.experiments.service import change_state, find
from service.experiments.states import EXPERIMENT_DISPATCHED, EXPERIMENT_ENDED, ExperimentState

PATH = "/api/v1/experiments"
STATES = get_args(ExperimentState)
SWEEP = "{name: a, search: {trials: 2, space: {training.lr: {uniform: [0.1, 0.2]}}}}"


# -- the tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
def test_an_action_says_what_it_does_in_every_state(action: Any) -> None:
    groups = [set(action.moves), set(action.already), set(action.advice)]
    assert set.union(*groups) == set(STATES)
    assert sum(map(len, groups)) == len(STATES)
    for source, target in action.moves.items():
        for attempt_open in (True, False) if source in EXPERIMENT_DISPATCHED else (False,):
            check_transition(source, target, Facts(action.desired, attempt_open))


def test_every_state_is_reached_and_all_but_the_ended_and_the_paused_are_left_without_a_user() -> None:
    assert {target for _, target in TRANSITIONS} == set(STATES)
    assert {s for s, _ in TRANSITIONS} == {None, *STATES} - {"deleting"}
    for state in ("succeeded", "failed", "cancelled", "paused"):
        leaving = {target for source, target in TRANSITIONS if source == state}
        assert leaving <= {"queued", "cancelling", "deleting"}  # retry, resume, cancel, delete


def test_no_attempt_starts_and_none_is_left_while_another_may_report() -> None:
    for source, target in TRANSITIONS:
        if target in ("starting", "queued", "paused", "cancelled", *EXPERIMENT_ENDED) and source is not None:
            for desired in ("run", "pause", "cancel", "delete"):
                with pytest.raises(IllegalTransition):
                    check_transition(source, target, Facts(desired, attempt_open=True))


async def test_an_illegal_transition_changes_nothing(context: Context) -> None:
    experiment_id = await queue(context)
    with pytest.raises(IllegalTransition, match="queued -> succeeded"):
        async with context.database.transaction() as session:
            await change_state(session, await find(session, experiment_id, lock=True), "succeeded", by="nobody")
    async with context.database.transaction() as session:
        assert (await find(session, experiment_id)).state == "queued"
        assert (await session.scalars(select(func.count()).select_from(Transition))).one() == 1


# -- over HTTP ----------------------------------------------------------------------------------------------------


async def put_into(service: Running, state: str) -> int:
    """An experiment in a state, however it came there."""
    wanted = {"pause": ("pausing", "paused"), "cancel": ("cancelling", "cancelled"), "delete": ("deleting",)}
    experiment_id: int = (await service.submit(SWEEP))["id"]
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, experiment_id)
        row.state = state
        row.desired_state = next((desired for desired, states in wanted.items() if state in states), "run")
    return experiment_id


async def do(service: Running, action: str, experiment_id: int) -> Any:
    if action == "delete":
        return await service.http.delete(f"{PATH}/{experiment_id}?confirm=true")
    body = {"seeds": 2} if action == "extend" else None
    return await service.http.post(f"{PATH}/{experiment_id}/{action}", json=body)


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_action_does_what_its_table_says_and_twice_is_as_once(service: Running, action: Any) -> None:
    rules = ACTIONS[action]
    for state in STATES:
        experiment_id = await put_into(service, state)
        first, second = await do(service, action, experiment_id), await do(service, action, experiment_id)
        if state in rules.advice:
            assert first.status_code == second.status_code == 409
            assert rules.advice[state] in first.json()["detail"]
            continue
        after = rules.moves.get(state, state)
        assert first.status_code == (202 if action == "delete" else 200)
        assert (first.json()["state"], first.json()["changed"]) == (after, state in rules.moves)
        assert after in first.json()["message"]
        # The dispatcher has not run: asked again, the experiment is where the first call brought it.
        assert (second.json()["state"], second.json()["changed"]) == (after, False) or after in rules.moves
        history = (await service.http.get(f"{PATH}/{experiment_id}/history")).json()["items"]
        if state in rules.moves:
            assert (history[1]["source"], history[1]["target"], history[1]["by"]) == (state, after, "ada")
            assert history[1]["reason"].startswith(f"{rules.done} by ada")
        else:
            assert len(history) == 1


@pytest.mark.parametrize("action", ACTIONS)
async def test_ten_at_once_do_it_once(service: Running, action: str) -> None:
    state = next(iter(ACTIONS[action].moves))  # type: ignore[index]
    experiment_id = await put_into(service, state)
    answers = await asyncio.gather(*(do(service, action, experiment_id) for _ in range(10)))
    assert sorted(answer.json()["changed"] for answer in answers) == [False] * 9 + [True]
    assert len((await service.http.get(f"{PATH}/{experiment_id}/history")).json()["items"]) == 2


@pytest.mark.parametrize("action", [*ACTIONS, "clone"])
async def test_actions_on_what_is_not_there_are_404_and_on_anothers_403(service: Running, action: str) -> None:
    if action == "clone":
        assert (await service.http.post(f"{PATH}/77/clone", json={})).status_code == 404
        return
    assert (await do(service, action, 77)).status_code == 404
    experiment_id = (await service.submit())["id"]
    async with client(service.url, await add_token(service.context.database, "submitter", "bob")) as http:
        if action == "delete":
            answer = await http.delete(f"{PATH}/{experiment_id}?confirm=true")
        else:
            answer = await http.post(f"{PATH}/{experiment_id}/{action}", json={})
    assert answer.status_code == 403
    assert (await service.experiment(experiment_id))["state"] == "queued"


async def test_a_delete_asks_first_and_says_what_would_go(service: Running) -> None:
    experiment = await service.submit("{name: dear, search: {trials: 3, space: {training.lr: {uniform: [0.1, 0.2]}}}}")
    answer = await service.http.delete(f"{PATH}/{experiment['id']}")
    assert answer.status_code == 409
    for word in ("dear", "3 trials", "checkpoints", "?confirm=true"):
        assert word in answer.json()["detail"]
    assert (await service.experiment(experiment["id"]))["state"] == "queued"


async def test_retry_takes_up_what_did_not_finish_and_forgives_what_was_lost(service: Running) -> None:
    experiment = await service.submit("{name: a, search: {trials: 4, space: {training.lr: {uniform: [0.1, 0.2]}}}}")
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, experiment["id"])
        row.state, row.attempt, row.trials_done, row.ended_at = "failed", 3, 4, func.now()
        rows = (await session.scalars(select(Trial).order_by(Trial.number))).all()
        for trial, state in zip(rows, ("succeeded", "failed", "stopped", "succeeded"), strict=True):
            trial.state, trial.error = state, "boom" if state == "failed" else None
    answer = (await do(service, "retry", experiment["id"])).json()
    assert (answer["state"], answer["trials_done"], answer["ended_at"]) == ("queued", 2, None)
    trials = (await service.http.get(f"{PATH}/{experiment['id']}/trials")).json()["items"]
    assert [t["state"] for t in trials] == ["succeeded", "interrupted", "interrupted", "succeeded"]
    assert {t["error"] for t in trials} == {None}
    async with service.context.database.transaction() as session:
        assert (await session.get_one(Experiment, experiment["id"])).forgiven == 3


async def test_a_clone_has_the_same_spec_or_one_with_fields_changed(service: Running) -> None:
    text = "# mine\nname: original\ntraining: {epochs: 20}"
    source = (await service.http.post(f"{PATH}?priority=-4", content=text)).json()
    same = (await service.http.post(f"{PATH}/{source['id']}/clone", json={})).json()
    assert (same["spec"], same["spec_text"], same["priority"]) == (source["spec"], text, -4)
    changes = {"name": "copy", "training.epochs": 30, "objective.weighting": {"policy": "fixed", "alpha": 0.25}}
    answer = await service.http.post(f"{PATH}/{source['id']}/clone", json={"changes": changes, "priority": -1})
    copy = answer.json()
    assert answer.headers["location"] == f"{PATH}/{copy['id']}"
    assert (copy["name"], copy["priority"], copy["spec"]["training"]["epochs"]) == ("copy", -1, 30)
    assert copy["spec"]["objective"]["weighting"]["alpha"] == 0.25
    assert copy["spec"]["data"] == source["spec"]["data"]
    history = (await service.http.get(f"{PATH}/{copy['id']}/history")).json()["items"]
    assert history[0]["reason"] == f"clone of experiment {source['id']}"
    headers = {"Idempotency-Key": "k"}
    twice = [
        (await service.http.post(f"{PATH}/{source['id']}/clone", json={"changes": changes}, headers=headers)).json()
        for _ in range(2)
    ]
    assert twice[0]["id"] == twice[1]["id"]


async def test_what_a_preset_gave_stays_when_the_preset_changes(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """name: a
preset: paper
training: {epochs: 20}
search:
  algorithm: grid
  seeds: 2
  space: {objective.weighting: {choice: [{policy: adaptive}, {policy: fixed, alpha: 0.5}]}}
"""
    planned = (await service.http.post(f"{PATH}?dry_run=true", content=text)).json()["spec"]
    source = await service.submit(text)
    assert source["spec"] == planned
    spec = source["spec"]
    assert (spec["preset"], spec["from_preset"], spec["training"]["epochs"]) == (None, "paper", 20)
    assert (spec["model"]["projector"]["out"], spec["objective"]["weighting"]["normalizer"]) == (2048, "dim")
    assert spec["search"]["space"]["objective.weighting"]["choice"][0]["normalizer"] == "dim"
    changed = Preset(name="paper", description="since", values={"objective": {"balancing": "gradient"}})
    monkeypatch.setitem(PRESETS, "paper", changed)
    clone = f"{PATH}/{source['id']}/clone"
    assert (await service.http.post(clone, json={})).json()["spec"] == spec
    copy = (await service.http.post(clone, json={"changes": {"training.epochs": 30}})).json()["spec"]
    assert copy == {**spec, "training": {**spec["training"], "epochs": 30}}
    again = await service.submit(json.dumps(spec))  # as a report or the page hands it out
    assert again["spec"] == spec
    refused = await service.http.post(clone, json={"changes": {"preset": "best"}})
    assert refused.status_code == 422
    assert "would fill in nothing" in refused.json()["detail"]
    unknown = await service.http.post(PATH, content="{name: a, preset: papr}")
    assert unknown.json()["errors"] == [{"pointer": "/preset", "detail": "should be 'paper' or 'best', not \"papr\""}]
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, source["id"])
        row.state, row.attempt, row.ended_at, row.trials_done = "succeeded", 1, func.now(), row.trial_count
    more = await service.http.post(f"{PATH}/{source['id']}/extend", json={"seeds": 3})
    assert more.status_code == 200, more.text
    stored = (await service.experiment(source["id"]))["spec"]
    assert stored == {**spec, "search": {**spec["search"], "seeds": 3}}


@pytest.mark.parametrize("changes", [{"name": "copy"}, {}])
async def test_a_large_spec_can_be_cloned_and_is_checked_beside_the_event_loop(
    service: Running, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON with every default filled in it is larger than a spec that may be submitted."""
    choices = ", ".join(f"{{policy: linear, start: .{k:03}, end: 0.9{k:03}}}" for k in range(1000))
    space = f"{{objective.weighting: {{choice: [{choices}]}}}}"
    source = await service.submit(
        f"{{name: large, description: '{'ä' * 2000}', search: {{algorithm: grid, space: {space}}}}}"
    )
    threads: list[threading.Thread] = []

    def noted(document: Any) -> ExperimentSpec:
        threads.append(threading.current_thread())
        return validate_spec(document)

    for module in (actions, experiments):
        monkeypatch.setattr(module, "validate_spec", noted)
    answer = await service.http.post(f"{PATH}/{source['id']}/clone", json={"changes": changes})
    assert answer.status_code == 201, answer.text
    assert len(json.dumps(answer.json()["spec"], indent=2)) > MAX_SPEC_BYTES
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"trainig.epochs": 5}, "trainig.epochs"),
        ({"search.trials": 5}, "search.trials"),
        ({"search.space.a": 5}, "search.space.a"),
        ({"": 5}, ""),
        ({"training.epochs": -1}, "/training/epochs"),
        ({"training.epochs": "many"}, "/training/epochs"),
        ({"name": "a\0"}, "/name"),
        ({"data": {"dataset": "npz", "path": "../../etc"}}, "/data"),
        ({"name": "\ud800"}, "/name"),
    ],
)
async def test_a_change_that_cannot_be_is_422_with_its_field(
    service: Running, changes: dict[str, Any], pointer: str
) -> None:
    source = await service.submit()
    body = json.dumps({"changes": changes})
    headers = {"Content-Type": "application/json"}
    answer = await service.http.post(f"{PATH}/{source['id']}/clone", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert len((await service.http.get(PATH)).json()["items"]) == 1


async def test_a_change_of_a_misspelt_field_is_told_the_right_one(service: Running) -> None:
    source = await service.submit()
    answer = await service.http.post(f"{PATH}/{source['id']}/clone", json={"changes": {"training.epohs": 3}})
    assert answer.json()["detail"] == "The spec has no field training.epohs (did you mean 'training.epochs'?)"


async def test_history_is_paged_in_order(service: Running) -> None:
    experiment_id = (await service.submit())["id"]
    for action in ("pause", "resume") * 3:
        assert (await do(service, action, experiment_id)).json()["changed"]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await service.http.get(f"{PATH}/{experiment_id}/history", params=params)).json()
        seen += [item["target"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["queued", *["paused", "queued"] * 3]
    assert (await service.http.get(f"{PATH}/77/history")).status_code == 404
