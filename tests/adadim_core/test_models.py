"""Networks: shapes, normalisation, export and its damage."""

import json

import pytest
import torch
from torch import nn

from adadim_core import load_encoder
from adadim_core.checkpoint import CheckpointError
from adadim_core.export import save_encoder
from adadim_core.models import SelfSupervisedModel, build_encoder, build_projector, register_backbone
from adadim_core.models import encoder as encoder_module
from adadim_core.spec.sections import ModelSpec, ProjectorSpec

GREY = {"mean": (0.3,), "std": (0.4,)}
COLOUR = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2)}


@pytest.mark.parametrize(("backbone", "features"), [("conv_small", 4 * 6), ("resnet18", 8 * 6)])
@pytest.mark.parametrize(("statistics", "shape"), [(GREY, (3, 1, 8, 8)), (COLOUR, (3, 3, 32, 32))])
def test_shapes(backbone, features, statistics, shape):
    spec = ModelSpec(backbone=backbone, width=6, projector=ProjectorSpec(layers=3, hidden=10, out=7))
    encoder = build_encoder(spec, **statistics)
    model = SelfSupervisedModel(encoder, build_projector(spec.projector, encoder.features))
    r, z = model(torch.rand(shape))
    assert encoder.features == features
    assert r.shape == (3, features)
    assert z.shape == (3, 7)


def test_resnet18_is_the_known_one():
    spec = ModelSpec(backbone="resnet18", width=64)
    encoder = build_encoder(spec, **COLOUR)
    # ResNet-18 with a 3x3 stem and without its classifier, as counted for the CIFAR version everywhere.
    assert sum(p.numel() for p in encoder.parameters()) == 11_168_832


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_projector_ends_in_a_plain_linear_layer(layers):
    modules = list(build_projector(ProjectorSpec(layers=layers, hidden=8, out=5), 6))
    kinds = [type(m) for m in modules]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear]
    assert modules[0].in_features == 6
    assert modules[-1].out_features == 5


def test_bytes_and_shares_are_the_same_image():
    encoder = build_encoder(ModelSpec(backbone="conv_small", width=4), **GREY).eval()
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(encoder(images), encoder(images.float() / 255))


def test_a_backbone_can_be_registered(monkeypatch):
    class Mean(nn.Module):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__()
            self.out_features = channels * width
            self.linear = nn.Linear(channels, channels * width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.mean(dim=(2, 3)))

    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone("mean", Mean)
    config = encoder_module.EncoderConfig("mean", 5, (0.5,), (0.2,))
    assert encoder_module.Encoder(config)(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(ValueError, match=r"nonsense.*mean"):
        encoder_module.Encoder(encoder_module.EncoderConfig("nonsense", 5, (0.5,), (0.2,)))


@pytest.mark.parametrize("backbone", ["conv_small", "resnet18"])
def test_an_exported_encoder_comes_back_the_same(tmp_path, backbone):
    encoder = build_encoder(ModelSpec(backbone=backbone, width=4), **COLOUR)
    encoder(torch.rand(8, 3, 16, 16))  # running statistics that are not the initial ones
    save_encoder(encoder, tmp_path / "export")
    images = torch.rand(6, 3, 16, 16)
    expected = encoder.eval()(images)
    for path in (tmp_path / "export", str(tmp_path / "export"), tmp_path / "export" / "encoder.json"):
        loaded = load_encoder(path)
        assert not loaded.training
        assert loaded.config == encoder.config
        assert torch.equal(loaded(images), expected)
    assert {file.name for file in (tmp_path / "export").iterdir()} == {"encoder.safetensors", "encoder.json"}
    assert json.loads((tmp_path / "export" / "encoder.json").read_text())["features"] == encoder.features


def test_a_damaged_export_is_said_to_be_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encoder\.json"):
        load_encoder(tmp_path)
    save_encoder(build_encoder(ModelSpec(backbone="conv_small", width=4), **GREY), tmp_path)
    weights, construction = tmp_path / "encoder.safetensors", tmp_path / "encoder.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError):
        load_encoder(tmp_path)
    weights.write_bytes(whole)
    fields = json.loads(construction.read_text())
    for wrong in ({**fields, "width": 5}, {**fields, "backbone": "unknown"}, {**fields, "format": 2}, [1], {}):
        construction.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError):
            load_encoder(tmp_path)
