"""What exports say of trials: everything one needs to group and compare, in one file, under the names of the spec."""

import io
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from service_harness import Running
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from test_answers import VALUES, ended_sweep
from test_command_line import Adadim, adadim  # noqa: F401 - a fixture
from test_reports import Reporter, points

from service.database.tables import Trial
from service.exports.parameters import parameter_table


async def table(service: Running, experiment_id: int, rows: str, form: str = "csv") -> pd.DataFrame:
    answer = await service.http.get(f"/api/v1/experiments/{experiment_id}/{rows}.{form}")
    assert answer.status_code == 200, answer.text
    read = pd.read_csv if form == "csv" else pd.read_parquet
    return read(io.BytesIO(answer.content))


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_trials_group_by_weighting_without_another_request(service: Running, form: str) -> None:
    reporter, _ = await ended_sweep(service)
    found = await table(service, reporter.experiment_id, "trials", form)
    means = found.groupby("objective.weighting")["last.knn_top1"].mean().round(2).to_dict()
    expected = [round(sum(values) / 3, 2) for values in VALUES]
    assert means == dict(zip(["fixed 0", "fixed 1", "adaptive"], expected, strict=True))
    assert sorted(found["seed"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    answer = (await service.http.get(f"/api/v1/experiments/{reporter.experiment_id}/answer")).json()
    numbers = {c["number"]: c["trials"] for c in answer["configurations"]}
    assert found.groupby("configuration")["trial"].apply(list).to_dict() == numbers
    assert set(found["objective.weighting.alpha"].dropna()) == {0.0, 1.0}
    assert set(found["state"]) == {"succeeded"}
    assert (found["epoch"] == 25).all()


async def test_points_carry_what_their_trial_has_set(service: Running) -> None:
    reporter, _ = await ended_sweep(service)
    found = await table(service, reporter.experiment_id, "points")
    accuracies = found[found.metric == "knn_top1"].groupby(["objective.weighting", "seed"]).value.last()
    assert accuracies["fixed 1", 2] == pytest.approx(VALUES[1][2], abs=0.002)
    assert len(found) == 27


async def test_best_values_are_over_the_whole_curve_and_only_where_there_is_a_better_end(service: Running) -> None:
    reporter = await Reporter.open(service, "min")
    curve = [math.sin(k / 7) for k in range(1000)]
    await reporter.accepted(
        series=[
            points(1, list(range(1000)), curve, "knn_top1"),
            points(1, list(range(3)), [3.0, 1.0, "NaN"], "h_r"),
            points(1, [1, 2], [5.0, 4.0], "alpha"),
            points(2, [1], ["NaN"], "knn_top1"),
        ]
    )
    found = (await table(service, reporter.experiment_id, "trials")).set_index("trial")
    assert found.loc[1, "best.knn_top1"] == max(curve)
    assert found.loc[1, "last.knn_top1"] == curve[-1]
    assert found.loc[1, "best.h_r"] == 1.0  # it ranks, and less is better
    assert math.isnan(found.loc[2, "best.knn_top1"])
    assert math.isnan(found.loc[0, "last.h_r"])
    assert "last.alpha" in found
    assert "best.alpha" not in found


async def test_a_table_of_nothing_measured_has_its_trials(service: Running) -> None:
    experiment = await service.submit(
        "{name: a, search: {algorithm: tpe, trials: 2, space: {training.lr: {uniform: [0.1, 0.5]}}}}"
    )
    found = await table(service, experiment["id"], "trials")
    assert list(found["state"]) == ["pending", "pending"]
    assert found["configuration"].isna().all()
    assert list(found["configuration_label"]) == ["not chosen yet"] * 2


def trials(*params: dict[str, Any]) -> list[Trial]:
    return [Trial(number=number, params=values) for number, values in enumerate(params)]


def test_columns_are_numbers_where_all_are_and_words_where_sections_are() -> None:
    fields = {"name": "old", "no_longer": "valid", "training": {"seed": 4}, "search": {"space": {"a.b": {}, "c": {}}}}
    found = parameter_table(
        fields,
        trials({"a.b": 1, "c": {"name": "x", "inner": {"deep": True}}}, {"a.b": 0.5, "c": "plain"}, {"a.b": [1, 2]}),
    ).to_pandas()
    assert list(found["a.b"]) == ["1", "0.5", "[1, 2]"]
    assert list(found["c.inner.deep"])[:1] == [True]
    assert list(found["c"])[1] == "plain"
    assert list(found["seed"]) == [4, 4, 4]
    numbers = parameter_table(fields, trials({"a.b": 1}, {"a.b": 2.5}, {"c": 1}))
    assert str(numbers.schema.field("a.b").type) == "double"
    assert numbers.column("configuration").to_pylist() == [0, 1, 2]


async def test_tensorboard_knows_the_hyperparameters(
    adadim: Adadim,  # noqa: F811
    service: Running,
    tmp_path: Path,
) -> None:
    reporter, _ = await ended_sweep(service)
    number = str(reporter.experiment_id)
    written = await adadim("export", number, "--format", "tensorboard", "-o", str(tmp_path / "board"))
    assert written.exit_code == 0, written.output
    shown = {}
    for trial in range(9):
        events = EventAccumulator(str(tmp_path / "board" / f"trial-{trial:04d}")).Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        hparams = HParamsPluginData.FromString(content).session_start_info.hparams
        shown[trial] = (hparams["objective.weighting"].string_value, hparams["seed"].number_value)
    assert sorted(shown.values()) == sorted((w, s) for w in ("fixed 0", "fixed 1", "adaptive") for s in (0.0, 1.0, 2.0))
    refused = await adadim("export", number, "--format", "tensorboard", "--rows", "trials")
    assert refused.exit_code == 1
    as_table = await adadim("export", number, "--rows", "trials", "-o", str(tmp_path / "trials.csv"))
    assert as_table.exit_code == 0, as_table.output
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 9
