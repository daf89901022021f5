"""Steps replayed from a recording: the same training, bit for bit; what cannot be replayed runs as it is."""

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adadim_core import replay
from adadim_core.models import encoder as encoder_module
from adadim_core.models import register_backbone
from adadim_core.replay import Record, ReplayedStep, record_cuda_graph
from adadim_core.spec import ExperimentSpec
from adadim_core.step import EmbeddedBatch, TrainingStep
from adadim_core.trainer import Trainer

Points = list[tuple[int, dict[str, float]]]

OF_THE_CLOCK = ("images_per_s", "gpu_memory", "gpu_utilization")


def record_on_cpu(step: TrainingStep) -> Record:
    """A recording as CUDA makes one, in Python: fixed tensors for what comes out, nothing computed but by replays."""

    def tensors(batch: EmbeddedBatch) -> list[Tensor]:
        terms = batch.terms
        optional = [x for x in (terms.information, batch.r1) if x is not None]
        return [terms.total, terms.dimension, terms.sample, *terms.parts.values(), batch.z1, batch.z2, *optional]

    def record(function: Callable[[], EmbeddedBatch]) -> tuple[EmbeddedBatch, Callable[[], None]]:
        state = [*step.model.state_dict().values()]
        state += [x for kept in step.optimizer.state.values() for x in kept.values() if isinstance(x, Tensor)]
        before = [x.clone() for x in state]
        settings = [dict(group) for group in step.optimizer.param_groups]
        outputs = function()
        for tensor, old in zip(state, before, strict=True):
            tensor.detach().copy_(old)
        for tensor in tensors(outputs):
            tensor.fill_(torch.nan)  # recording computes nothing

        def replay() -> None:
            outside = [dict(group) for group in step.optimizer.param_groups]
            for group, recorded in zip(step.optimizer.param_groups, settings, strict=True):
                group.update(recorded)
            for tensor, new in zip(tensors(outputs), tensors(function()), strict=True):
                tensor.copy_(new)
            for group, now in zip(step.optimizer.param_groups, outside, strict=True):
                group.update(now)

        return outputs, replay

    return record


class Counting:
    """A recorder that says how often it recorded and how often a recording was replayed."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.recordings = self.replays = 0

    def __call__(self, function: Callable[[], EmbeddedBatch]) -> tuple[EmbeddedBatch, Callable[[], None]]:
        outputs, replay = self._record(function)
        self.recordings += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return outputs, counted


def recorded(
    spec: ExperimentSpec, device: torch.device, *, replayed: bool = True, **kwargs: Any
) -> tuple[Trainer, Points, Counting]:
    points: Points = []

    def report(step: int, _: float, values: Mapping[str, float]) -> None:
        points.append((step, {name: value for name, value in values.items() if name not in OF_THE_CLOCK}))

    made = Trainer(spec, device=device, report=report, **kwargs)
    counting = Counting(record_cuda_graph if device.type == "cuda" else record_on_cpu(made._training))
    made._replayed = ReplayedStep(made._training, counting) if replayed else None
    return made, points, counting


def assert_same(points: Points, expected: Points, *, rel: float) -> None:
    assert [step for step, _ in points] == [step for step, _ in expected]
    for (step, ours), (_, theirs) in zip(points, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert ours[key] == pytest.approx(theirs[key], rel=rel, abs=rel), (step, key)


@pytest.mark.parametrize(
    ("optimizer", "balancing"),
    [
        ("lars", "gradient"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("adamw", "none"), ("sgd", "initial"))),
    ],
)
def test_a_replayed_run_is_the_run(tiny_spec, device, optimizer, balancing):
    spec = tiny_spec(
        training={"optimizer": optimizer, "epochs": 2, "log_every_steps": 1, "clip_norm": 5.0},
        objective={"mutual_information": {"gamma": 0.5, "start_epoch": 1}, "balancing": balancing},
    )
    plain, expected, _ = recorded(spec, device, replayed=False)
    plain.fit()
    made, points, counting = recorded(spec, device)
    made.fit()
    assert made.replays
    assert counting.recordings == 2  # without the I(R;Z) term, and from the second epoch on with it
    assert counting.replays == 2 * (11 - 2)
    # The weights of the losses go through float32 here, and rounding grows over 22 steps.
    assert_same(points, expected, rel=2e-2)


def test_a_replayed_run_takes_parts_and_a_probe(tiny_spec, device):
    spec = tiny_spec(
        training={"accumulate": 3, "epochs": 2},
        evaluation={"linear_probe": "online"},
        objective={"weighting": {"policy": "linear"}},
    )
    plain, expected, _ = recorded(spec, device, replayed=False)
    plain.fit()
    made, points, counting = recorded(spec, device)
    made.fit()
    assert counting.recordings == 1  # alpha is 0 at the first step and 1 at the last: those run as they are
    assert counting.replays == 22 - 2 - 2
    assert_same(points, expected, rel=5e-2)


@pytest.mark.parametrize("stop", [pytest.param(2, marks=pytest.mark.slow), 9])
def test_a_replayed_run_that_is_resumed_is_the_uninterrupted_run(tiny_spec, tmp_path, stop):
    spec = tiny_spec(training={"epochs": 2, "optimizer": "lars", "lr": 0.3})
    whole, expected, _ = recorded(spec, torch.device("cpu"))
    whole.fit()
    first, before, _ = recorded(spec, torch.device("cpu"))
    first.train_steps(stop)
    first.save(tmp_path / "state.pt")
    second, after, counting = recorded(spec, torch.device("cpu"))
    second.train_steps(5)  # its recording must not outlive the state it was made for
    after.clear()
    second.load(tmp_path / "state.pt")
    second.fit()
    assert counting.recordings == 2
    assert [(s, v) for s, v in before + after if "loss" in v] == [(s, v) for s, v in expected if "loss" in v]
    weights = whole.state_dict()["model"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in second.state_dict()["model"].items())


def test_what_cannot_be_recorded_runs_as_it_is_with_a_warning(tiny_spec, caplog):
    def refuse(_: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand a long story")

    spec = tiny_spec(training={"epochs": 1, "warmup_epochs": 0, "log_every_steps": 1})
    plain, expected, _ = recorded(spec, torch.device("cpu"), replayed=False)
    plain.fit()
    made, points, _ = recorded(spec, torch.device("cpu"))
    made._replayed = ReplayedStep(made._training, refuse)
    made.fit()
    (message,) = caplog.messages
    assert message.startswith("the training step is not replayed as a CUDA graph, it runs as it is: ")
    assert message.endswith("operation not permitted when stream is capturing")
    assert not made.replays
    assert_same(points, expected, rel=1e-3)


def test_the_warning_names_what_came_first(tiny_spec, caplog):
    def break_off(_: object) -> Any:
        try:
            raise RuntimeError("a workspace would have to be allocated")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    made, _, _ = recorded(tiny_spec(), torch.device("cpu"))
    made._replayed = ReplayedStep(made._training, break_off)
    made.train_steps(4)
    (message,) = caplog.messages
    assert message.endswith("it runs as it is: a workspace would have to be allocated")


def test_what_a_recording_that_broke_off_had_computed_is_gone_before_the_step_runs(tiny_spec, monkeypatch):
    alive: list[weakref.ref[Tensor]] = []

    def break_off(function: Callable[[], EmbeddedBatch]) -> Any:
        outputs = function()
        alive.append(weakref.ref(outputs.z1))
        raise RuntimeError("operation not permitted when stream is capturing")

    made, _, _ = recorded(tiny_spec(), torch.device("cpu"))
    made._replayed = ReplayedStep(made._training, break_off)
    held: list[bool] = []
    ordinary = made._replayed._ordinary

    def watched(*args: Any) -> EmbeddedBatch:
        held.extend(ref() is not None for ref in alive)
        return ordinary(*args)

    made.train_steps(2)
    monkeypatch.setattr(made._replayed, "_ordinary", watched)
    made.train_steps(1)
    assert held == [False]  # asked by the step that runs instead


def test_after_a_recording_broke_off_no_other_is_tried(tiny_spec, monkeypatch, caplog):
    broken = threading.Event()
    broken.set()
    monkeypatch.setattr(replay, "_broken_off", broken)
    made, _, counting = recorded(tiny_spec(), torch.device("cpu"))
    made.train_steps(6)
    assert counting.recordings == 0
    assert "an earlier recording of this process broke off" in caplog.text


def test_a_recording_that_computes_something_else_is_not_used(tiny_spec, caplog):
    spec = tiny_spec(training={"epochs": 1, "warmup_epochs": 0, "log_every_steps": 1})
    plain, expected, _ = recorded(spec, torch.device("cpu"), replayed=False)
    plain.fit()
    made, points, _ = recorded(spec, torch.device("cpu"))
    faithful = record_on_cpu(made._training)

    def wrong(function: Callable[[], EmbeddedBatch]) -> tuple[EmbeddedBatch, Callable[[], None]]:
        outputs, replay = faithful(function)

        def replay_twice() -> None:
            replay()
            replay()

        return outputs, replay_twice

    made._replayed = ReplayedStep(made._training, wrong)
    made.fit()
    assert "the first replay differs from the step by" in caplog.text
    assert_same(points, expected, rel=1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", [0, 1, 2], ids=["weights", "statistics", "optimiser"])
def test_a_replay_that_leaves_no_number_differs_without_limit(part: int, value: float):
    before, after, found = (tuple([torch.full((3,), x)] for _ in range(3)) for x in (0.0, 1.0, 1.0))
    loss = torch.tensor(1.0)
    assert replay._difference(before, replay._After(after, loss), replay._After(found, loss)) == 0
    found[part][0][1] = value
    assert replay._difference(before, replay._After(after, loss), replay._After(found, loss)) == torch.inf
    diverged = torch.tensor(torch.nan)
    assert replay._difference(before, replay._After(after, diverged), replay._After(found, diverged)) == 0
    assert replay._difference(before, replay._After(after, loss), replay._After(after, diverged)) == torch.inf


@pytest.mark.parametrize(
    ("sections", "backbone", "reason"),
    [
        ({"objective": {"mutual_information": {"order": 1.5}}}, None, "of order 1.5 in the loss needs eigenvalues"),
        ({}, "dropout", "draws random numbers"),
    ],
    ids=["eigenvalues in the loss", "dropout"],
)
def test_steps_that_wait_or_draw_are_not_recorded(tiny_spec, device, monkeypatch, caplog, sections, backbone, reason):
    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone(
        "dropout",
        lambda config: nn.Sequential(nn.Flatten(), nn.Linear(config.image_size**2, 24), nn.ReLU(), nn.Dropout(0.3)),
    )
    spec = tiny_spec(**sections, training={"epochs": 1, "warmup_epochs": 0})
    made, _, counting = recorded(spec, device, backbone=backbone)
    made.fit()
    assert made.done
    assert counting.recordings == 0
    assert reason in caplog.text


@pytest.mark.parametrize(("compile_", "on_gpu"), [("auto", True), (True, True), (False, False)])
def test_the_spec_says_what_is_replayed(tiny_spec, device, monkeypatch, compile_, on_gpu):
    monkeypatch.setattr("adadim_core.trainer.compile_in_place", lambda *_: None)
    made = Trainer(tiny_spec(training={"compile": compile_}), device=device)
    assert (made._replayed is not None) == (on_gpu and device.type == "cuda")


@pytest.mark.device
@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a CUDA driver breaks a recording off; run on a card")
def test_random_numbers_are_drawn_after_a_cuda_recording_that_broke_off(monkeypatch):
    monkeypatch.setattr(replay, "_broken_off", threading.Event())

    def waits():
        return torch.rand(4, device="cuda").sum().item()

    with torch.cuda.stream(torch.cuda.Stream()), pytest.raises(RuntimeError):
        record_cuda_graph(waits)
    torch.manual_seed(0)
    first = torch.rand(4, device="cuda")
    torch.manual_seed(0)
    assert torch.equal(first, torch.rand(4, device="cuda"))
    torch.rand(4, generator=torch.Generator("cuda").manual_seed(0), device="cuda")
