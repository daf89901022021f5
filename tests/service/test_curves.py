"""Curves by configuration over HTTP, and the importance of swept fields."""

from typing import Any

from service_harness import Running
from test_reports import Reporter

SPEC = """\
name: seeds
training: {epochs: 4}
search:
  algorithm: grid
  seeds: 3
  space:
    objective.weighting: {choice: [{policy: fixed, alpha: 0.0}, {policy: adaptive}]}
"""


async def read(service: Running, experiment_id: int, **query: Any) -> dict[str, Any]:
    response = await service.http.get(f"/api/v1/experiments/{experiment_id}/curves", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def reported(service: Running, lengths: list[int], **first: float | str) -> int:
    """A sweep whose trials have so many points; h_r of trial k at step s is k + s, unless `first` has another."""
    experiment = await service.submit(SPEC)
    reporter = await Reporter.next(service, experiment["id"], 1)
    series = []
    for trial, length in enumerate(lengths):
        steps = list(range(length))
        if not length:
            continue
        values: list[Any] = [float(trial + step) for step in steps]
        if trial == 0 and "h_r" in first:
            values[-1] = first["h_r"]
        series.append({
            "trial": trial, "steps": [10 * s for s in steps], "epochs": [s / 2 for s in steps],
            "times": [1e9 + 100 * trial + s for s in steps], "values": {"h_r": values, "i_rz": values},
        })  # fmt: skip
    await reporter.accepted(series=series)
    number: int = experiment["id"]
    return number


async def test_a_curve_is_the_mean_over_the_seeds_of_a_configuration(service: Running) -> None:
    number = await reported(service, [5] * 6)  # trials 0, 2, 4 are the first configuration, 1, 3, 5 the second
    found = await read(service, number, metrics="h_r", by="epoch")
    assert found["positions"] == {"h_r": [0.0, 0.5, 1.0, 1.5, 2.0]}
    assert [(c["configuration"], c["first"], c["n"]) for c in found["curves"]] == [(0, 0, [3] * 5), (1, 0, [3] * 5)]
    assert found["curves"][0]["mean"] == [2, 3, 4, 5, 6]
    half = 4.302653 * 2 / 3**0.5
    assert abs(found["curves"][0]["high"][0] - (2 + half)) < 1e-4
    assert abs(found["curves"][1]["low"][4] - (7 - half)) < 1e-4


async def test_axes_ranges_and_what_is_not_there_yet(service: Running) -> None:
    number = await reported(service, [5, 0, 3], h_r="NaN")
    by_step = await read(service, number, metrics="h_r", by="step", start=20, end=40)
    assert by_step["positions"]["h_r"] == [20, 30, 40]
    (only,) = by_step["curves"]
    assert (only["n"], only["mean"]) == ([2, 1, 1], [3.0, 3.0, None])
    assert only["low"][1:] == [None, None]
    by_time = await read(service, number, metrics="i_rz", by="time")
    assert by_time["positions"]["i_rz"] == [0, 1, 2, 3, 4]  # since each trial's own first point
    empty = await read(service, (await service.submit(SPEC))["id"])
    assert (empty["positions"], empty["curves"]) == ({}, [])


async def test_long_series_are_told_at_as_many_positions_as_asked_for(service: Running) -> None:
    number = await reported(service, [3000, 3000])
    found = await read(service, number, points=50, by="step")
    assert {metric: len(where) for metric, where in found["positions"].items()} == {"h_r": 50, "i_rz": 50}
    h_r = [c for c in found["curves"] if c["metric"] == "h_r"]
    assert [(c["mean"][0], c["mean"][-1], c["low"]) for c in h_r] == [(0, 2999, None), (1, 3000, None)]
    where, mean = found["positions"]["h_r"], h_r[0]["mean"]
    assert all(abs(10 * value - step) < 1e-6 for step, value in zip(where, mean, strict=True))


async def test_a_trial_that_failed_is_no_part_of_the_mean(service: Running) -> None:
    experiment = await service.submit(SPEC)
    reporter = await Reporter.next(service, experiment["id"], 1)
    series = [
        {"trial": k, "steps": [1], "epochs": [1.0], "times": [1e9], "values": {"h_r": [float(k)]}} for k in (0, 1, 2, 4)
    ]
    failed = [{"number": k, "state": "failed", "error": "out of memory"} for k in (1, 4)]
    await reporter.accepted(series=series, trials=failed)
    found = await read(service, experiment["id"], metrics="h_r")
    assert [(c["configuration"], c["n"], c["mean"]) for c in found["curves"]] == [(0, [2], [1.0]), (1, [1], [1.0])]


async def test_importance_is_refused_for_few_configurations(service: Running) -> None:
    number = await reported(service, [2] * 6)
    response = await service.http.get(f"/api/v1/experiments/{number}/importance")
    assert response.status_code == 200
    assert response.json()["refused"] == "it takes 20 configurations with a result, there are 0"
    missing = await service.http.get("/api/v1/experiments/4711/importance")
    assert missing.status_code == 404
