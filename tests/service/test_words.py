"""Words that the API tells its clients: complete, and written nowhere else."""

import re
from pathlib import Path
from typing import get_args

import pytest
from service_harness import Running, points
from test_reports import Reporter

import service
from adadim_core.spec.metrics import METRICS
from adadim_core.spec.report import TrialState
from service.experiments.lifecycle import ACTIONS, OFFERS, TRANSITIONS, offered
from service.experiments.states import EXPERIMENT_STATES, TRIAL_STATES, ExperimentState

SCRIPTS = sorted((Path(service.__file__).parent / "dashboard" / "static" / "js").glob("*.js"))


def test_every_state_and_action_has_its_words() -> None:
    assert EXPERIMENT_STATES.keys() == set(get_args(ExperimentState))
    assert TRIAL_STATES.keys() == set(get_args(TrialState))
    assert {state for pair in TRANSITIONS for state in pair if state} == EXPERIMENT_STATES.keys()
    assert OFFERS.keys() == ACTIONS.keys() | {"clone"}, "clone is no transition"


@pytest.mark.parametrize("state", get_args(ExperimentState))
def test_what_is_offered_would_change_something(state: str) -> None:
    for name in offered(state):
        assert name == "clone" or state in ACTIONS[name].moves
    assert ("cancel" in offered(state)) == (state in ACTIONS["cancel"].moves)
    assert ("delete" in offered(state)) == (state != "deleting")


async def test_the_api_tells_words_actions_and_labels(service: Running) -> None:
    words = (await service.http.get("/api/v1/words")).json()
    assert [metric["name"] for metric in words["metrics"]] == [*METRICS]
    assert {"name": "h_r", "title": "H(R)", "unit": "nats", "decimals": 3}.items() <= words["metrics"][0].items()
    assert {state["name"] for state in words["experiment_states"] if state["ended"]} == {
        "succeeded", "failed", "cancelled",
    }  # fmt: skip
    assert [action["name"] for action in words["actions"] if action["asks"]] == ["cancel", "delete"]
    experiment = await service.submit(
        "{name: sweep, search: {algorithm: grid, space: {objective.weighting.alpha: {choice: [0.5]}}},"
        " objective: {weighting: {policy: fixed}}}"
    )
    assert experiment["actions"] == ["pause", "clone", "cancel", "delete"]
    path = f"/api/v1/experiments/{experiment['id']}"
    (trial,) = (await service.http.get(f"{path}/trials")).json()["items"]
    assert trial["label"] == (await service.http.get(f"/api/v1/trials/{trial['id']}")).json()["label"]
    assert trial["label"] == "fixed 0.5"


async def test_an_import_under_way_may_be_cancelled_and_deleted(service: Running) -> None:
    body = {"id": "0" * 32, "spec": '{"name": "imported"}'}
    number = (await service.http.post("/api/v1/experiments/import", json=body)).json()["experiment_id"]
    experiment = await service.experiment(number)
    assert (experiment["state"], experiment["actions"]) == ("importing", ["clone", "cancel", "delete"])


async def test_an_event_of_a_trial_tells_its_label(service: Running) -> None:
    from httpx_sse import aconnect_sse
    from service_harness import client

    reporter = await Reporter.open(service)
    await reporter.accepted(
        trials=[{"number": 0, "state": "running", "params": {"training.lr": 0.25}}], series=[points(0, [1], [1.0])]
    )
    path = f"/api/v1/experiments/{reporter.experiment_id}/events"
    async with client(service.url, service.token) as http, aconnect_sse(http, "GET", path) as stream:
        async for event in stream.aiter_sse():
            if event.event == "trial":
                assert "lr=0.25" in event.json()["label"]
                return


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_of_the_dashboard_has_a_list_of_its_own(script: Path) -> None:
    quoted = set(re.findall(r'"([a-z_0-9]+)"', script.read_text()))
    assert len(quoted & (EXPERIMENT_STATES.keys() | TRIAL_STATES.keys())) <= 1, "states are served by /words"
    assert len(quoted & METRICS.keys()) <= 2, "one plot is of H(R) over I(R;Z); else metrics are served by /words"
    assert len(quoted & ACTIONS.keys()) <= 1, "actions are served by /words"
