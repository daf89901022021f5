"""Two processes with half the batch each are one process with the whole: losses, gradients, statistics, training."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adadim_core import distributed

SCRIPT = Path(__file__).with_name("two_processes.py")
SPEC = """
name: two processes
model: {backbone: conv_small, width: 4, projector: {layers: 2, hidden: 32, out: 32}}
training: {epochs: 2, batch_size: 256, optimizer: sgd, lr: 0.01, warmup_epochs: 1, precision: float32}
"""
OBJECTIVES = [
    "vicreg",
    "barlow_twins",
    "nt_xent",
    "mixed with information",
    "mixed with information of order 1.5",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process computes, and what each of two does."""
    folder = tmp_path_factory.mktemp("gloo")
    (folder / "spec.yaml").write_text(SPEC)
    runs = [(0, 1), (0, 2), (1, 2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(world), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, world in runs
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=220)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    names = {"one": "world1-rank0", "first": "world2-rank0", "second": "world2-rank1"}
    return {key: torch.load(folder / f"{name}.pt", weights_only=True) for key, name in names.items()}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("process", ["first", "second"])
def test_losses_gradients_and_batch_statistics_agree(results, name, process):
    whole, halves = results["one"][name], results[process][name]
    assert whole.keys() == halves.keys()
    for key in whole:
        scale = max(whole[key].abs().max().item(), 1e-3)
        torch.testing.assert_close(
            halves[key], whole[key], rtol=1e-5, atol=1e-5 * scale, msg=lambda m, k=key: f"{k}: {m}"
        )


@pytest.mark.parametrize("name", ["trained", "trained in parts"])
def test_an_epoch_of_training_agrees(results, name):
    whole, halves = results["one"][name], results["first"][name]
    for key, weight in whole["model"].items():
        torch.testing.assert_close(halves["model"][key], weight, rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    assert [point[:2] for point in halves["points"]] == [point[:2] for point in whole["points"]]
    for (*_, ours), (*_, expected) in zip(halves["points"], whole["points"], strict=True):
        ours.pop("images_per_s", None)
        expected.pop("images_per_s", None)
        assert ours == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["trained", "trained in parts"])
def test_both_processes_end_with_the_same_weights_and_only_the_first_reports(results, name):
    first, second = results["first"][name], results["second"][name]
    for key, weight in first["model"].items():
        assert torch.equal(second["model"][key], weight), key
    assert second["points"] == []
    assert second["last"].keys() == first["last"].keys()


@pytest.mark.parametrize("process", ["one", "first", "second"])
def test_a_resumed_run_is_the_uninterrupted_run(results, process):
    whole, resumed = results[process]["trained"], results[process]["resumed"]
    for key, weight in whole["model"].items():
        assert torch.equal(resumed["model"][key], weight), key
    for (*point, ours), (*expected, theirs) in zip(resumed["points"], whole["points"], strict=True):
        assert point == expected
        assert {**ours, "images_per_s": 0} == {**theirs, "images_per_s": 0}


def test_processes_that_find_different_checkpoints_say_so(results):
    assert results["one"]["disagreement"] == ""
    for process in ("first", "second"):
        assert results[process]["disagreement"].endswith("they read 3, none")


def test_all_processes_end_at_the_step_of_the_collapse(results):
    first, second = results["first"]["collapsed"], results["second"]["collapsed"]
    assert first == second
    assert first["step"] == first["collapsed_at"] < 50


def test_without_a_process_group_there_is_one_process():
    model = nn.Sequential(nn.BatchNorm1d(3))
    assert distributed.world_size() == 1
    assert distributed.rank() == 0
    assert distributed.synchronize_batch_norm(model, torch.device("cpu")) is model
    assert type(model[0]) is nn.BatchNorm1d
    assert distributed.broadcast_float(0.25, torch.device("cpu")) == 0.25
    z = torch.arange(12.0).view(4, 3)
    assert torch.equal(distributed.gather_views(z), z.view(2, 2, 3))
