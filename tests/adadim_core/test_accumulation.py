"""A batch in parts has the loss and the gradient of the batch as a whole."""

import pytest
import torch
from torch import nn

from adadim_core.accumulation import backward_in_parts, join_views, split_views
from adadim_core.information import mutual_information
from adadim_core.losses import nt_xent_loss, vicreg_loss
from adadim_core.models import encoder as encoder_module
from adadim_core.models import register_backbone
from adadim_core.seeding import seeded
from adadim_core.trainer import Trainer


class Plain(nn.Module):
    """A network without batch statistics."""

    def __init__(self, config):
        super().__init__()
        self.out_features = config.width
        self.layers = nn.Sequential(nn.Conv2d(config.channels, config.width, 3), nn.Tanh())

    def forward(self, x):
        return self.layers(x).mean(dim=(2, 3))


class Pair(nn.Module):
    """R and Z by a network that draws random numbers and keeps batch statistics."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Tanh())
        self.projector = nn.Linear(8, 10)

    def forward(self, x):
        r = self.encoder(x)
        return r, self.projector(r)


@pytest.mark.parametrize("parts", [1, 3, 4])
def test_views_stay_together(parts):
    views = torch.arange(20.0).view(20, 1)
    split = split_views(views, parts)
    assert len(split) == parts
    for part in split:
        first, second = part.view(2, -1)
        assert torch.equal(second, first + 10)
    assert torch.equal(join_views(split), views)


@pytest.mark.parametrize("uses_r", [True, False])
def test_parts_give_the_gradient_of_their_joint_loss(draw, device, uses_r):
    torch.manual_seed(0)
    model, reference = Pair().double().to(device), Pair().double().to(device)
    reference.load_state_dict(model.state_dict())
    parts = split_views(draw(20, 6).to(device), 3)

    def forward(network, images, part):
        with seeded(device, 0, part):
            return network(images)

    def loss(r, z):
        z1, z2 = z.view(2, -1, 10).unbind()
        total = vicreg_loss(z1, z2) + nt_xent_loss(z1, z2)
        return total + mutual_information(r.view(2, -1, 8)[0], z1) if uses_r else total

    backward_in_parts(model, parts, forward, loss)
    outputs = [forward(reference, part, i) for i, part in enumerate(parts)]
    loss(*(join_views(tensors) for tensors in zip(*outputs, strict=True))).backward()
    for (name, p), expected in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.grad, expected.grad, msg=lambda m, n=name: f"{n}: {m}")
    for buffer, expected in zip(model.buffers(), reference.buffers(), strict=True):
        assert torch.equal(buffer, expected)  # statistics are recorded once


@pytest.mark.parametrize(
    "objective",
    [
        {},
        {"dimension_loss": {"name": "barlow_twins"}, "weighting": {"policy": "fixed", "alpha": 0.5}},
        {"weighting": {"policy": "fixed", "alpha": 1.0}, "mutual_information": {"gamma": 1.0, "order": 1.5}},
    ],
    ids=["adaptive vicreg", "barlow twins", "nt-xent and information"],
)
def test_training_in_parts_is_training_at_once(tiny_spec, device, monkeypatch, objective):
    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone("plain", Plain)

    def trained(accumulate):
        points = []
        spec = tiny_spec(
            objective=objective,
            model={"projector": {"layers": 1, "out": 32}},
            training={"accumulate": accumulate, "optimizer": "sgd", "lr": 0.01, "warmup_epochs": 0, "epochs": 1},
        )
        made = Trainer(spec, device=device, report=lambda s, e, v: points.append((s, dict(v))), backbone="plain")
        made.fit()
        return made.state_dict()["model"], points

    weights, points = trained(1)
    for accumulate in (4, 5):
        weights_in_parts, points_in_parts = trained(accumulate)
        for name, expected in weights.items():
            torch.testing.assert_close(weights_in_parts[name], expected, rtol=1e-4, atol=1e-5)
        for (step, values), (other_step, others) in zip(points, points_in_parts, strict=True):
            assert step == other_step
            for key in values.keys() - {"images_per_s", "gpu_memory", "gpu_utilization", "knn_top1"}:
                assert others[key] == pytest.approx(values[key], rel=1e-3, abs=1e-4), key


def test_parts_of_a_single_image_are_refused(tiny_spec):
    with pytest.raises(ValueError, match="accumulate"):
        Trainer(tiny_spec(training={"accumulate": 65}))
