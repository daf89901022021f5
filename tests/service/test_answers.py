"""The answer over HTTP and in the terminal: the same words and numbers as the analysis gives for the same trials."""

import html
import json
from pathlib import Path
from typing import Any

from service_harness import Running
from test_command_line import Adadim, adadim  # noqa: F401 - a fixture
from test_reports import Reporter

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer
from adadim_core.spec import parse_spec, plan_trials
from service.experiments import service as experiments

SPEC = """\
name: weightings
training: {epochs: 25}
search:
  algorithm: grid
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: fixed, alpha: 1.0}, {policy: adaptive}]}
    training.seed: {choice: [0, 1, 2]}
"""
VALUES = [[0.70, 0.73, 0.71], [0.86, 0.88, 0.87], [0.86, 0.885, 0.87]]
IMAGES = 359


def measured(trial: int, value: float) -> dict[str, Any]:
    values = {"knn_top1": [round(value * IMAGES) / IMAGES], "h_r": [2 + value + trial % 3 / 1e3], "i_rz": [1 - value]}
    return {"trial": trial, "steps": [125], "epochs": [25.0], "times": [1e9], "values": values}


async def ended_sweep(service: Running, *, until: int = 9) -> tuple[Reporter, list[TrialRow]]:
    """A sweep of which so many trials have ended, with the rows an answer should be made of."""
    experiment = await service.submit(SPEC)
    reporter = await Reporter.next(service, experiment["id"], 1)
    rows = []
    for plan in plan_trials(parse_spec(SPEC)):
        weighting = plan.params["objective.weighting"]
        k = 2 if weighting["policy"] == "adaptive" else int(weighting["alpha"])
        series = measured(plan.number, VALUES[k][plan.params["training.seed"]])
        if plan.number < until:
            state = {"number": plan.number, "state": "succeeded", "epoch": 25, "epochs": 25}
            await reporter.accepted(series=[series], trials=[state])
            last = {name: column[0] for name, column in series["values"].items()}
            rows.append(TrialRow(plan.number, plan.params, "succeeded", 25, 25, last))
        else:
            rows.append(TrialRow(plan.number, plan.params, "pending", 0, 0, {}))
    return reporter, rows


async def read(service: Running, experiment_id: int) -> dict[str, Any]:
    response = await service.http.get(f"/api/v1/experiments/{experiment_id}/answer")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_the_answer_is_that_of_the_analysis(service: Running) -> None:
    reporter, rows = await ended_sweep(service)
    expected = answer(Question.of(parse_spec(SPEC)), rows)
    found = await read(service, reporter.experiment_id)
    assert Answer.model_validate(found) == expected
    assert found["verdict"] == "leads"
    assert found["sentence"].startswith("adaptive leads: 0.8")


async def test_a_sweep_that_runs_has_an_answer_so_far(service: Running) -> None:
    reporter, _ = await ended_sweep(service, until=6)
    found = await read(service, reporter.experiment_id)
    assert (found["final"], found["trials_done"], found["trials"]) == (False, 6, 9)
    missing = await service.http.get("/api/v1/experiments/4711/answer")
    assert missing.status_code == 404


async def test_a_spec_of_another_version_is_answered_all_the_same(service: Running) -> None:
    reporter, _ = await ended_sweep(service)
    known = await read(service, reporter.experiment_id)
    async with service.context.database.transaction() as session:
        experiment = await experiments.find(session, reporter.experiment_id)
        experiment.spec = {**experiment.spec, "of_another_version": True}
    found = await read(service, reporter.experiment_id)
    assert found["configurations"][0]["label"] == "weighting={'policy': 'adaptive'}"
    assert [c["standing"] for c in found["configurations"]] == [c["standing"] for c in known["configurations"]]


async def test_the_terminal_says_the_same_words(adadim: Adadim, service: Running) -> None:  # noqa: F811
    reporter, _ = await ended_sweep(service)
    await reporter.accepted(outcome={"state": "succeeded"})
    found = await read(service, reporter.experiment_id)
    watched = await adadim("watch", str(reporter.experiment_id))
    asked = await adadim("answer", str(reporter.experiment_id))
    for result in (watched, asked):
        assert result.exit_code == 0, result.output
        printed = " ".join(result.output.split())  # its lines fit 80 columns
        assert found["sentence"] in printed
        for configuration in found["configurations"]:
            assert configuration["label"] in printed
    as_json = await adadim("answer", str(reporter.experiment_id), "--json")
    assert Answer.model_validate_json(as_json.stdout) == Answer.model_validate(found)


async def test_the_report_says_the_same_words(adadim: Adadim, service: Running, tmp_path: Path) -> None:  # noqa: F811
    reporter, _ = await ended_sweep(service)
    found = await read(service, reporter.experiment_id)
    result = await adadim("report", str(reporter.experiment_id), "--output", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "report" / "answer.json").read_text()) == found
    assert html.escape(found["sentence"]) in (tmp_path / "report" / "report.html").read_text()
    assert (tmp_path / "report" / "figures" / "curves.pdf").exists()
