"""The statement that `make demo` ends with, from the trials it trains: the same on every machine."""

from pathlib import Path

import pytest
import torch

from adadim_core import Trainer
from adadim_core.answers.answer import Question, TrialRow, answer
from adadim_core.spec import parse_spec, plan_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demo_tells_the_weighting_that_is_worse_from_those_within_noise() -> None:
    spec = parse_spec(Path(__file__).parents[2].joinpath("examples", "digits-sweep.yaml").read_bytes())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for plan in plan_trials(spec):
            last: dict[str, float] = {}
            trainer = Trainer(spec.with_params(plan.params), report=lambda _step, _epoch, values: last.update(values))  # noqa: B023
            trainer.fit()
            rows.append(TrialRow(plan.number, plan.params, "succeeded", trainer.epoch, trainer.epochs, last))
    finally:
        torch.set_num_threads(threads)
    found = answer(Question.of(spec), rows)
    standings = {configuration.label: configuration.standing for configuration in found.configurations}
    assert standings.pop("fixed 0") == "worse"
    assert sorted(standings.values()) == ["leads", "not distinguishable", "not distinguishable"]
    assert found.resolution is not None
    assert not found.resolution.saturated
    worse = next(configuration for configuration in found.configurations if configuration.label == "fixed 0")
    for metric in ("h_r", "i_rz"):  # the highest of all, and yet the lowest accuracy
        low = worse.differences[metric].low_adjusted
        assert low is not None
        assert low > 0
