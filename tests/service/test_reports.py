"""What workers report: points, trial states, heartbeat and outcome, over HTTP with the attempt's token."""

import asyncio
import json
import threading
from typing import Any

import pytest
from service_harness import Running, client, points
from sqlalchemy import func, select

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.report import TrialUpdate
from service.attempts import receiving
from service.attempts import repository as attempts
from service.database.tables import Attempt, Experiment, Segment, Trial
from service.secret import hash_token, new_token

SPEC = "{name: a, search: {metric: h_r, mode: MODE, trials: 3, space: {training.lr: {uniform: [0.1, 0.5]}}}}"


class Reporter:
    """One attempt of one experiment, as its worker knows it."""

    def __init__(self, service: Running, experiment_id: int, attempt_id: int, token: str) -> None:
        self.service, self.experiment_id, self.attempt_id, self.token = service, experiment_id, attempt_id, token

    @classmethod
    async def open(cls, service: Running, mode: str = "max") -> "Reporter":
        experiment = await service.submit(SPEC.replace("MODE", mode))
        return await cls.next(service, experiment["id"], 1)

    @classmethod
    async def next(cls, service: Running, experiment_id: int, number: int) -> "Reporter":
        token = new_token()
        async with service.context.database.transaction() as session:
            attempt = await attempts.add(
                session, experiment_id=experiment_id, number=number, submission_id=f"job-{experiment_id}-{number}",
                token_hash=hash_token(token),
            )  # fmt: skip
            experiment = await session.get_one(Experiment, experiment_id)
            experiment.state, experiment.attempt = "starting", number
        return cls(service, experiment_id, attempt.id, token)

    async def post(self, token: str | None = None, **report: Any) -> Any:
        async with client(self.service.url, token or self.token) as http:
            # NaN and half surrogate pairs, as httpx would not send them
            path, content = f"/api/v1/attempts/{self.attempt_id}/reports", json.dumps(report)
            return await http.post(path, content=content, headers={"Content-Type": "application/json"})

    async def accepted(self, **report: Any) -> dict[str, Any]:
        response = await self.post(**report)
        assert response.status_code == 200, response.text
        reply: dict[str, Any] = response.json()
        return reply

    async def experiment(self) -> dict[str, Any]:
        return await self.service.experiment(self.experiment_id)

    async def trial(self, number: int = 0) -> dict[str, Any]:
        path = f"/api/v1/experiments/{self.experiment_id}/trials"
        trial: dict[str, Any] = (await self.service.http.get(path)).json()["items"][number]
        return trial

    async def series(self) -> list[dict[str, Any]]:
        path = f"/api/v1/experiments/{self.experiment_id}/metrics"
        found: list[dict[str, Any]] = (await self.service.http.get(path)).json()["series"]
        return found


async def test_the_first_report_sets_the_experiment_running(service: Running) -> None:
    reporter = await Reporter.open(service)
    assert await reporter.accepted() == {"directive": "continue"}
    experiment = await reporter.experiment()
    assert experiment["state"] == "running"
    assert experiment["started_at"] is not None
    async with service.context.database.transaction() as session:
        attempt = await session.get_one(Attempt, reporter.attempt_id)
        first = attempt.heartbeat_at
    await reporter.accepted()
    async with service.context.database.transaction() as session:
        attempt = await session.get_one(Attempt, reporter.attempt_id)
        assert attempt.state == "running"
        assert first is not None
        assert attempt.heartbeat_at is not None
        assert attempt.heartbeat_at > first


async def test_points_delivered_twice_and_in_any_order_are_the_same_as_once(service: Running) -> None:
    reporter = await Reporter.open(service)
    late, early = points(1, [20, 30], [2.0, 3.0]), points(1, [0, 10], [0.0, 1.0])
    for series in (late, early, late, early):
        await reporter.accepted(series=[series])
    (found,) = await reporter.series()
    assert found == {
        "trial": 1, "metric": "h_r", "total": 4, "steps": [0, 10, 20, 30], "values": [0.0, 1.0, 2.0, 3.0],
        "epochs": [0.0, 1.0, 0.0, 1.0], "times": [1000.0, 1001.0, 1000.0, 1001.0],
    }  # fmt: skip
    assert (await reporter.trial(1))["latest"] == {"h_r": 3.0}


async def test_a_step_written_again_takes_the_last_value(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1, 2, 2], [1.0, 2.0, 5.0])])
    assert (await reporter.series())[0]["values"] == [1.0, 5.0]
    assert (await reporter.trial())["latest"] == {"h_r": 5.0}
    await reporter.accepted(series=[points(0, [2], [6.0], start=2000.0), points(0, [2], [7.0], start=2000.0)])
    assert (await reporter.series())[0]["values"] == [1.0, 7.0]
    assert (await reporter.trial())["latest"] == {"h_r": 7.0}


async def test_what_an_earlier_attempt_measured_and_comes_late_replaces_nothing(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1, 2], [1.0, 2.0], start=2000.0)])
    await reporter.accepted(series=[points(0, [1, 2, 3], [8.0, 9.0, 3.0], start=1000.0)])
    assert (await reporter.series())[0]["values"] == [1.0, 2.0, 3.0]
    assert (await reporter.trial())["latest"] == {"h_r": 3.0}


async def test_many_reports_at_once_lose_nothing(service: Running) -> None:
    reporter = await Reporter.open(service)
    reports = [
        reporter.accepted(
            series=[points(trial, [step], [float(step)], metric) for metric in ("loss", "h_r", f"m{step}")]
        )
        for trial in range(3)
        for step in range(10)
    ]
    await asyncio.gather(*reports)
    async with service.context.database.transaction() as session:
        assert (await session.scalars(select(func.sum(Segment.points)))).one() == 90
        trials = (await session.scalars(select(Trial).order_by(Trial.number))).all()
        experiment = await session.get_one(Experiment, reporter.experiment_id)
    assert [trial.latest["h_r"] for trial in trials] == [{"step": 9, "time": 1000.0, "value": 9.0}] * 3
    assert 3 <= experiment.seq <= 92  # queued, running, and one for every group of reports committed together


async def test_values_that_are_no_numbers_are_stored_and_shown(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1, 2, 3, 4], ["NaN", "Infinity", "-Infinity", None])])
    (found,) = await reporter.series()
    assert found["values"] == ["NaN", "Infinity", "-Infinity"]
    trial = await reporter.trial()
    assert trial["latest"] == {"h_r": "-Infinity"}
    await reporter.accepted(series=[points(0, [5], [float("nan")])])
    assert (await reporter.trial())["latest"] == {"h_r": "NaN"}


@pytest.mark.parametrize(("mode", "best", "value"), [("max", 1, 2.0), ("min", 0, 1.0)])
@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity"])
async def test_the_best_trial_has_the_best_last_value_and_never_nan(
    service: Running, mode: str, best: int, value: float, odd: str
) -> None:
    reporter = await Reporter.open(service, mode)
    await reporter.accepted(series=[points(0, [1, 2], [9.0, 1.0])])
    assert (await reporter.experiment())["best_trial"] == 0
    await reporter.accepted(series=[points(1, [1, 2], [0.0, 2.0]), points(2, [1, 2], [5.0, odd])])
    experiment = await reporter.experiment()
    assert (experiment["best_trial"], experiment["best_value"]) == (best, value)


@pytest.mark.parametrize("value", [1e300, -3e19, 2.0**64])
async def test_a_loss_that_diverges_is_told_as_any_other(service: Running, value: float) -> None:
    """PostgreSQL writes such a number without a point, as an integer of hundreds of digits."""
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1], [value], "loss")])
    last = await service.http.get(f"/api/v1/experiments/{reporter.experiment_id}/metrics/last")
    assert last.status_code == 200, last.text
    assert last.json()["metrics"]["loss"][0] == value
    assert (await reporter.trial())["latest"] == {"loss": value}
    await reporter.accepted(series=[points(0, [2], [value / 2], "loss")])
    assert (await reporter.trial())["latest"] == {"loss": value / 2}
    assert (await service.http.get("/metrics")).status_code == 200


async def test_equal_trials_leave_the_first_best(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(2, [1], [1.0]), points(1, [1], [1.0])])
    assert (await reporter.experiment())["best_trial"] == 1


async def test_when_the_best_becomes_nan_nothing_is_best(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1], [5.0])])
    await reporter.accepted(series=[points(0, [2], ["NaN"])])
    experiment = await reporter.experiment()
    assert (experiment["best_trial"], experiment["best_value"]) == (None, None)


async def test_trial_states_are_kept_and_counted(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(trials=[{"number": 0, "state": "running", "epoch": 1, "epochs": 5}])
    trial = await reporter.trial()
    assert (trial["state"], trial["epoch"], trial["epochs"], trial["ended_at"]) == ("running", 1, 5, None)
    assert trial["started_at"] is not None
    await reporter.accepted(
        trials=[
            {"number": 0, "state": "succeeded", "epoch": 5, "epochs": 5},
            {"number": 1, "state": "failed", "error": "out of memory\0 at \ud800"},
        ]
    )
    assert (await reporter.experiment())["trials_done"] == 2
    assert (await reporter.trial(0))["ended_at"] is not None
    assert (await reporter.trial(1))["error"].startswith("out of memory")


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_an_outcome_ends_the_experiment_and_what_did_not_finish(service: Running, state: str) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(trials=[{"number": 0, "state": "succeeded"}, {"number": 1, "state": "running"}])
    await reporter.accepted(outcome={"state": state, "error": "boom" if state == "failed" else None})
    experiment = await reporter.experiment()
    assert (experiment["state"], experiment["trials_done"]) == (state, 1)
    assert experiment["state_reason"] == ("boom" if state == "failed" else None)
    assert experiment["ended_at"] is not None
    assert [(await reporter.trial(n))["state"] for n in range(3)] == ["succeeded", "stopped", "stopped"]
    assert (await reporter.post()).status_code == 409


async def test_an_interrupted_attempt_is_over_and_the_experiment_is_not(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(outcome={"state": "interrupted"})
    assert (await reporter.experiment())["state"] == "running"  # until the dispatcher queues it again
    assert (await reporter.post()).status_code == 409


async def test_points_and_outcome_in_one_report_are_both_kept(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1], [5.0])], outcome={"state": "succeeded"})
    experiment = await reporter.experiment()
    assert (experiment["state"], experiment["best_value"]) == ("succeeded", 5.0)


async def test_a_superseded_attempt_changes_nothing(service: Running) -> None:
    first = await Reporter.open(service)
    second = await Reporter.next(service, first.experiment_id, 2)
    before = await first.experiment()
    for report in ({}, {"series": [points(0, [1], [1.0])]}, {"outcome": {"state": "succeeded"}}):
        refused = await first.post(**report)
        assert (refused.status_code, refused.json()["title"]) == (409, "Superseded")
    assert await first.experiment() == before
    assert await first.series() == []
    await second.accepted(series=[points(0, [1], [1.0])])


async def test_a_token_opens_its_own_attempt_and_nothing_else(service: Running) -> None:
    reporter, other = await Reporter.open(service), await Reporter.open(service)
    for token in (other.token, service.token, "adadim_wrong"):
        assert (await reporter.post(token)).status_code == 401
    async with client(service.url, None) as http:
        for attempt in (reporter.attempt_id, 10**6):  # the same answer: it tells nobody which attempts exist
            refused = await http.post(f"/api/v1/attempts/{attempt}/reports", json={})
            assert refused.status_code == 401
            assert refused.json()["detail"] == "Not the token of this attempt."
    async with client(service.url, reporter.token) as http:
        assert (await http.get("/api/v1/experiments")).status_code == 401
    assert (await reporter.experiment())["state"] == "starting"


async def test_a_token_remembered_here_that_another_replica_voided_is_void(service: Running) -> None:
    reporter, own = await Reporter.open(service), new_token()
    await reporter.accepted()  # this replica remembers the first token now
    async with service.context.database.transaction() as session:
        await attempts.change(session, reporter.attempt_id, token_hash=hash_token(own))
    for _ in range(2):
        refused = await reporter.post(series=[points(0, [1], [1.0])])
        assert (refused.status_code, refused.json()["detail"]) == (401, "Not the token of this attempt.")
    assert await reporter.series() == []
    assert (await reporter.post(own)).status_code == 200


async def test_a_cancelled_experiment_tells_its_worker_to_stop(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted()
    await service.http.post(f"/api/v1/experiments/{reporter.experiment_id}/cancel")
    assert await reporter.accepted() == {"directive": "stop"}
    assert (await reporter.experiment())["state"] == "cancelling"


@pytest.mark.parametrize(
    "report",
    [
        {"trials": [{"number": 3, "state": "running"}]},
        {"series": [points(99, [1], [1.0])]},
        {"series": [points(0, [1, 2], [1.0])]},
        {"series": [points(0, [1], ["one"])]},
        {"series": [points(0, [2**63], [1.0])]},
        {"series": [points(0, [1], [1.0], "no name")]},
        {"series": [points(0, [1], [1.0], "\ud800")]},
        {"series": [points(0, [10**400], [1.0])]},
        {"trials": [{"number": 0, "state": "running", "epoch": 2**31}]},
        {"\ud800": 1},
        {"a/b~": 1},
        {"outcome": {"state": "done"}},
    ],
)
async def test_a_report_that_cannot_be_is_422_and_changes_nothing(service: Running, report: dict[str, Any]) -> None:
    reporter = await Reporter.open(service)
    good = points(0, [1], [1.0])
    response = await reporter.post(**(report | {"series": [good, *report.get("series", [])]}))
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert await reporter.series() == []
    assert (await reporter.experiment())["state"] == "starting"


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"\xff", b"", b"null", b"9" * 5000, b'{"trials": ' + b"[" * 5000]
)
async def test_a_report_that_is_no_json_is_4xx(service: Running, body: bytes) -> None:
    reporter = await Reporter.open(service)
    async with client(service.url, reporter.token) as http:
        path = f"/api/v1/attempts/{reporter.attempt_id}/reports"
        response = await http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_report_too_large_is_413(service: Running) -> None:
    reporter = await Reporter.open(service)
    response = await reporter.post(outcome={"state": "failed", "error": "x" * (8 * 1024 * 1024)})
    assert response.status_code == 413
    assert str(8 * 1024 * 1024) in response.json()["detail"]  # which the binary form may have
    large = [points(0, list(range(40_000)), [0.123456789] * 40_000)]
    assert (await reporter.post(series=large)).status_code == 200  # far over the limit of other routes


async def test_values_chosen_while_the_sweep_runs_are_stored_and_shown(service: Running) -> None:
    reporter = await Reporter.open(service)
    chosen = {"training.lr": 0.3}
    await reporter.accepted(trials=[{"number": 1, "state": "running", "params": chosen}])
    assert (await reporter.trial(1))["params"] == chosen
    # Later reports say nothing of them.
    await reporter.accepted(trials=[{"number": 1, "state": "stopped", "epoch": 4, "reason": "asha, at epoch 4"}])
    trial = await reporter.trial(1)
    assert (trial["params"], trial["state"], trial["reason"]) == (chosen, "stopped", "asha, at epoch 4")
    assert (await reporter.experiment())["trials_done"] == 1


@pytest.mark.parametrize(
    "params",
    [
        {"training.epochs": 3},
        {"training.lr": "fast"},
        {"training.lr": -1.0},
        {"training.lr": float("nan")},
        {"training.lr": "\0"},
        {"training.lr": "x" * 20_000},
        {str(k): 1 for k in range(40)},
    ],
)
async def test_values_that_do_not_fit_the_spec_are_refused(service: Running, params: dict[str, Any]) -> None:
    reporter = await Reporter.open(service)
    before = (await reporter.trial(1))["params"]
    response = await reporter.post(trials=[{"number": 1, "state": "running", "params": params}])
    assert response.status_code == 422, response.text
    assert (await reporter.trial(1))["params"] == before


async def test_the_spec_is_read_once_for_all_values_of_a_report(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = await Reporter.open(service)
    read: list[Any] = []
    real = receiving.ExperimentSpec.model_validate

    def noted(fields: Any) -> ExperimentSpec:
        read.append((threading.current_thread(), fields))
        return real(fields)

    class Noted(ExperimentSpec):
        model_validate = staticmethod(noted)  # type: ignore[assignment]

    monkeypatch.setattr(receiving, "ExperimentSpec", Noted)
    await reporter.accepted(
        trials=[{"number": k % 2, "state": "running", "params": {"training.lr": 0.1 + k / 1e4}} for k in range(900)]
    )
    ((thread, fields),) = read
    assert thread is not threading.main_thread()
    assert "search" not in fields
    assert (await reporter.trial(1))["params"] == {"training.lr": 0.1899}


def test_values_of_a_spec_of_another_version_are_taken_where_the_search_varies_them() -> None:
    fields = {"name": "a", "gone": 1, "search": {"space": {"training.lr": {"uniform": [0.1, 0.2]}}}}
    reported = [
        [TrialUpdate(number=0, state="running", params={path: 0.15})] for path in ("training.lr", "training.epochs")
    ]
    assert receiving._find_wrong_params(fields, reported) == {1: "Trial 0: the search does not vary training.epochs."}


async def test_what_an_attempt_waits_for_is_the_reason_of_the_experiments_state(service: Running) -> None:
    reporter = await Reporter.open(service)
    await reporter.accepted()
    await reporter.accepted(waiting="waiting for nodes: one trial takes 8 GPUs")
    experiment = await reporter.experiment()
    assert (experiment["state"], experiment["state_reason"]) == ("running", "waiting for nodes: one trial takes 8 GPUs")
    seq = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/metrics")).json()["seq"]
    await reporter.accepted(waiting="waiting for nodes: one trial takes 8 GPUs")
    await reporter.accepted()  # points, which know nothing of it
    again = (await service.http.get(f"/api/v1/experiments/{experiment['id']}/metrics")).json()["seq"]
    assert again == seq
    assert (await reporter.experiment())["state_reason"] is not None
    await reporter.accepted(waiting="")
    assert (await reporter.experiment())["state_reason"] is None


async def test_facts_about_data_sets_are_kept_and_shown(service: Running) -> None:
    reporter = await Reporter.open(service)

    async def shown() -> list[dict[str, Any]]:
        response = await service.http.get(f"/api/v1/experiments/{reporter.experiment_id}/data")
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items

    assert await shown() == []
    facts = {"fingerprint": "12ab", "lines": ["training images: 1"]}
    for told in ({"aa": facts}, {"aa": {"fingerprint": "another"}}, {"bb": {"fingerprint": "34cd"}}):
        await reporter.accepted(data=told)
    assert await shown() == [facts, {"fingerprint": "34cd"}], "the first that is told of a data set stands"
    for start in range(0, 96, 32):
        await reporter.accepted(data={f"{start + k:x}": {"fingerprint": str(k)} for k in range(32)})
    assert len(await shown()) < 100
    for bad in ({"../x": facts}, {"aa": {"lines": ["x" * 200_000]}}, {"aa": "text"}, {"aa": {"a": "\0"}}):
        assert (await reporter.post(data=bad)).status_code == 422


async def test_the_seed_of_a_sweep_with_seeds_is_a_value_that_workers_may_report(service: Running) -> None:
    search = "{algorithm: tpe, trials: 2, seeds: 2, space: {training.lr: {uniform: [0.1, 0.5]}}}"
    experiment = await service.submit(f"{{name: a, search: {search}}}")
    reporter = await Reporter.next(service, experiment["id"], 1)
    chosen = {"training.lr": 0.2, "training.seed": 1}
    await reporter.accepted(trials=[{"number": 2, "state": "running", "params": chosen}])
    assert (await reporter.trial(2))["params"] == chosen
    without = await Reporter.open(service)
    refused = await without.post(trials=[{"number": 0, "state": "running", "params": chosen}])
    assert (refused.status_code, "does not vary training.seed" in refused.text) == (422, True)
