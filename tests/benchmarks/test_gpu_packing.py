"""Members that train together are, each of them, the trial alone, bit for bit."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gpu_packing import Pack

from adadim_core import Trainer
from adadim_core.spec import ExperimentSpec, validate_spec

pytestmark = pytest.mark.slow  # a prototype and a count of operations: no promise of the README


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def spec(
    *,
    weighting: dict[str, Any] | None = None,
    gamma: float = 0.1,
    temperature: float = 0.2,
    **training: Any,
) -> ExperimentSpec:
    return validate_spec(
        {
            "name": "member",
            "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 2, "hidden": 32, "out": 32}},
            "objective": {
                "weighting": weighting or {"policy": "adaptive"},
                "sample_loss": {"name": "nt_xent", "temperature": temperature},
                "mutual_information": {"gamma": gamma},
            },
            "training": {
                "epochs": 3,
                "batch_size": 256,
                "optimizer": "adamw",
                "lr": 2e-3,
                "warmup_epochs": 1,
                "precision": "float32",
                **training,
            },
        }
    )


def trained_alone(member: ExperimentSpec, *, weights_of_seed: int | None = None) -> Trainer:
    trainer = Trainer(member, device="cpu")
    if weights_of_seed is not None:
        training = member.training.model_copy(update={"seed": weights_of_seed})
        other = Trainer(member.model_copy(update={"training": training}), device="cpu")
        trainer.load_state_dict(trainer.state_dict() | {"model": other.state_dict()["model"]})
    trainer.fit()
    return trainer


def assert_same(pack: Pack, number: int, alone: Trainer) -> None:
    member = pack.members[number]
    expected = alone.state_dict()["model"]
    for name, tensor in member.model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), expected[name].nan_to_num(7.0)), (number, name)
    for name, value in member.metrics.items():
        assert value == pytest.approx(alone.metrics[name], rel=0, abs=0, nan_ok=True), (number, name)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_each_member_is_the_trial_alone(optimizer: str) -> None:
    members = [
        spec(optimizer=optimizer),
        spec(optimizer=optimizer, weighting={"policy": "fixed", "alpha": 0.0}),
        spec(optimizer=optimizer, weighting={"policy": "fixed", "alpha": 1.0}, gamma=1.0),
        spec(optimizer=optimizer, weighting={"policy": "linear", "start": 0.0, "end": 1.0}, temperature=0.5),
        spec(optimizer=optimizer, lr=5e-4, gamma=0.0),
    ]
    pack = Pack(members)
    pack.train_steps(10**6)
    for number, member in enumerate(members):
        assert_same(pack, number, trained_alone(member))
    encoders = {tuple(m.model.encoder.backbone.layers[0].weight.flatten().tolist()) for m in pack.members}
    assert len(encoders) == len(members), "members that differ in their settings became the same network"


def test_a_member_with_other_initial_weights() -> None:
    """It has the weights of its own seed, and the order and views of the pack."""
    pack = Pack([spec(seed=0), spec(seed=1)])
    pack.train_steps(10**6)
    assert_same(pack, 0, trained_alone(spec(seed=0)))
    assert_same(pack, 1, trained_alone(spec(seed=0), weights_of_seed=1))


def test_the_others_do_not_notice_a_member_that_diverges() -> None:
    members = [spec(), spec(optimizer="adamw", lr=100.0, gamma=1e6), spec(weighting={"policy": "fixed", "alpha": 0.3})]
    pack = Pack(members)
    pack.members[1].model.projector[0].weight.data[0, 0] = torch.nan
    pack.train_steps(10**6)
    assert not torch.isfinite(torch.tensor(pack.members[1].metrics["loss"]))
    for number in (0, 2):
        assert_same(pack, number, trained_alone(members[number]))


def test_members_that_end_early_leave_the_rest_alone() -> None:
    members = [spec(), spec(lr=1e-3), spec(lr=5e-4)]
    pack = Pack(members)
    pack.train_steps(7)
    pack.keep(1)
    pack.train_steps(10**6)
    assert_same(pack, 0, trained_alone(members[0]))


@pytest.mark.parametrize(
    ("other", "named"),
    [({"batch_size": 128}, "training.batch_size"), ({"optimizer": "sgd"}, "training.optimizer")],
)
def test_what_members_must_share(other: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Pack([spec(), spec(**other)])
