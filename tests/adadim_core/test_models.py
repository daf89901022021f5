"""Networks: shapes, normalisation, export and its damage."""

import json
import pickle
import shutil

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from adadim_core import load_dataset, load_encoder
from adadim_core.building import build_model
from adadim_core.checkpoint import CheckpointError
from adadim_core.export import save_encoder
from adadim_core.models import SelfSupervisedModel, build_encoder, build_projector, register_backbone
from adadim_core.models import encoder as encoder_module
from adadim_core.spec import validate_spec
from adadim_core.spec.backbones import patch_size
from adadim_core.spec.sections import ModelSpec, ProjectorSpec

GREY = {"mean": (0.3,), "std": (0.4,)}
COLOUR = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2)}


@pytest.mark.parametrize(
    ("backbone", "features"), [("conv_small", 4 * 6), ("resnet18", 8 * 6), ("resnet34", 8 * 6), ("resnet50", 32 * 6)]
)
@pytest.mark.parametrize(("statistics", "shape"), [(GREY, (3, 1, 8, 8)), (COLOUR, (3, 3, 32, 32))])
def test_shapes(backbone, features, statistics, shape):
    spec = ModelSpec(backbone=backbone, width=6, projector=ProjectorSpec(layers=3, hidden=10, out=7))
    encoder = build_encoder(spec, **statistics)
    model = SelfSupervisedModel(encoder, build_projector(spec.projector, encoder.features))
    r, z = model(torch.rand(shape))
    assert encoder.features == features
    assert r.shape == (3, features)
    assert z.shape == (3, 7)


# Parameters with a classifier of 1000 classes: torchvision's tables for the ResNets, Touvron et al. 2021 for the ViTs.
PUBLISHED = {
    "resnet18": (11_689_512, 512),
    "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048),
    "vit_tiny": (5_717_416, 192),
    "vit_small": (22_050_664, 384),
}


@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "vit_tiny", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet34", "resnet50", "vit_small"))],
)
def test_networks_for_large_images_are_the_published_ones(backbone):
    published, features = PUBLISHED[backbone]
    encoder = build_encoder(ModelSpec(backbone=backbone), **COLOUR, image_size=224)
    assert encoder.features == features
    assert sum(p.numel() for p in encoder.parameters()) == published - 1000 * (features + 1)
    assert encoder.eval()(torch.rand(1, 3, 224, 224)).shape == (1, features)


def test_resnet18_for_small_images_is_the_known_one():
    encoder = build_encoder(ModelSpec(backbone="resnet18"), **COLOUR)
    # ResNet-18 with a 3x3 stem and without its classifier, as counted for the CIFAR version everywhere.
    assert sum(p.numel() for p in encoder.parameters()) == 11_168_832


@pytest.mark.parametrize(
    ("stem", "image_size", "expected"),
    [("auto", 64, "cifar"), ("auto", 65, "imagenet"), ("cifar", 224, "cifar"), ("imagenet", 32, "imagenet")],
)
def test_the_stem_follows_the_images_unless_it_is_given(stem, image_size, expected):
    spec = ModelSpec(backbone="resnet18", width=2, stem=stem)
    encoder = build_encoder(spec, **GREY, image_size=image_size)
    assert encoder.config.stem == expected
    side = {"cifar": image_size, "imagenet": -(-image_size // 4)}[expected]
    assert encoder.backbone.stem(torch.rand(1, 1, image_size, image_size)).shape[2:] == (side, side)


@pytest.mark.parametrize(
    ("image_size", "patch"), [(8, 1), (28, 4), (32, 4), (48, 6), (64, 8), (96, 8), (128, 16), (224, 16), (256, 32)]
)
def test_patches_follow_the_images(image_size, patch):
    assert patch_size(image_size) == patch


def test_images_that_a_vit_cannot_cut_are_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        patch_size(37)
    vit = build_encoder(ModelSpec(backbone="vit_tiny"), **GREY, image_size=8)
    with pytest.raises(ValueError, match="8x8 pixels, not 16x16"):
        vit(torch.rand(1, 1, 16, 16))


def test_a_vit_sees_where_things_are():
    vit = build_encoder(ModelSpec(backbone="vit_tiny"), **GREY, image_size=8).eval()
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4] = 1
    assert not torch.allclose(vit(image), vit(image.flip(3)), atol=1e-3)


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
        def __init__(self, config: encoder_module.EncoderConfig) -> None:
            super().__init__()
            self.linear = nn.Linear(config.channels, config.channels * config.width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.mean(dim=(2, 3)))

    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone("mean", Mean)
    register_backbone("pixels", lambda _: nn.Identity())
    register_backbone("number", lambda _: 5)
    with pytest.raises(ValueError, match="gave a int, not a torch module"):
        build_encoder(ModelSpec(), **GREY, backbone="number")
    with pytest.raises(ValueError, match="is a network of adadim_core"):
        register_backbone("resnet18", Mean)
    spec = ModelSpec(width=5)
    encoder = build_encoder(spec, **GREY, backbone="mean")
    assert encoder.features == 5  # found by a forward pass
    assert encoder(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    with pytest.raises(ValueError, match=r"\(N, D_r\), not to \(1, 1, 32, 32\)"):
        build_encoder(spec, **GREY, backbone="pixels")
    with pytest.raises(ValueError, match=r"nonsense.*mean"):
        build_encoder(spec, **GREY, backbone="nonsense")


def test_a_network_that_flattens_by_view_and_ties_weights(monkeypatch, tmp_path):
    class Tied(nn.Module):
        def __init__(self, config: encoder_module.EncoderConfig) -> None:
            super().__init__()
            self.first = nn.Conv2d(config.channels, 4, 3, padding=1)
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.third = nn.Conv2d(4, 4, 3, padding=1)
            self.third.weight = self.second.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.third(self.second(self.first(x)).relu()).view(len(x), -1)

    monkeypatch.setattr(encoder_module, "_BACKBONES", dict(encoder_module._BACKBONES))
    register_backbone("tied", Tied)
    data = load_dataset("digits")
    spec = validate_spec({"name": "x"})
    encoder = build_model(spec, data, torch.device("cpu"), backbone="tied").encoder.eval()
    images = data.test_images[:4].contiguous(memory_format=torch.channels_last)
    expected = encoder(images)
    assert expected.shape == (4, 4 * 64)
    save_encoder(encoder, tmp_path)
    torch.testing.assert_close(load_encoder(tmp_path)(images), expected.detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_an_encoder_in_another_precision_takes_bytes(dtype):
    encoder = build_encoder(ModelSpec(backbone="conv_small", width=4), **COLOUR).eval()
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    expected = encoder(images)
    r = encoder.to(dtype)(images)
    assert r.dtype == dtype
    torch.testing.assert_close(r.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("spec", "image_size"),
    [
        (ModelSpec(backbone="conv_small", width=4), 16),
        (ModelSpec(backbone="resnet18", width=4, stem="imagenet"), 16),
        (ModelSpec(backbone="vit_tiny"), 16),
    ],
    ids=["conv_small", "resnet18", "vit_tiny"],
)
def test_an_exported_encoder_comes_back_the_same(tmp_path, spec, image_size):
    encoder = build_encoder(spec, **COLOUR, image_size=image_size)
    encoder(torch.rand(8, 3, 16, 16))  # running statistics that are not the initial ones
    save_encoder(encoder, tmp_path / "export")
    images = torch.rand(6, 3, 16, 16)
    expected = encoder.eval()(images)
    download = tmp_path / "experiment-7-trial-3.safetensors"
    shutil.copy(tmp_path / "export" / "encoder.safetensors", download)
    for path in (tmp_path / "export", str(tmp_path / "export"), download):
        loaded = load_encoder(path)
        assert not loaded.training
        assert loaded.config == encoder.config
        assert torch.equal(loaded(images), expected)
    assert [file.name for file in (tmp_path / "export").iterdir()] == ["encoder.safetensors"]


def test_a_damaged_or_hostile_export_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encoder\.safetensors"):
        load_encoder(tmp_path)
    encoder = build_encoder(ModelSpec(backbone="conv_small", width=4), **GREY)
    save_encoder(encoder, tmp_path)
    file = tmp_path / "encoder.safetensors"
    whole = file.read_bytes()
    with safe_open(file, "pt") as opened:
        fields = json.loads(opened.metadata()["adadim_encoder"])
    file.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError):
        load_encoder(file)
    file.write_bytes(pickle.dumps({"format": 1}))
    with pytest.raises(CheckpointError):
        load_encoder(file)
    nested = "[" * 100_000
    wrong = ({**fields, "width": 5}, {**fields, "backbone": "unknown"}, {**fields, "format": 2}, [1], {})
    terabytes = ({**fields, "width": 10**7}, {**fields, "image_size": 10**7}, {**fields, "mean": [0.5] * 10**6})
    never = ({**fields, "width": -1}, {**fields, "mean": "x"}, {**fields, "image_size": 0}, {**fields, "std": None})
    for header in (nested, *map(json.dumps, (*wrong, *terabytes, *never)), None):
        metadata = None if header is None else {"adadim_encoder": header}
        file.write_bytes(safetensors.torch.save(encoder.state_dict(), metadata=metadata))
        with pytest.raises(CheckpointError):
            load_encoder(file)
