"""A trial on every device there is: the same training up to rounding; states and encoders go from one to another."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from adadim_core import load_encoder
from adadim_core.precision import arithmetic, autocast, resolve_precision
from adadim_core.spec import ExperimentSpec
from adadim_core.trainer import Trainer

Points = list[tuple[int, dict[str, float]]]

OF_THE_CLOCK = ("images_per_s", "gpu_memory", "gpu_utilization")


def recorded(spec: ExperimentSpec, device: torch.device | str, **kwargs: Any) -> tuple[Trainer, Points]:
    points: Points = []

    def report(step: int, _: float, values: Mapping[str, float]) -> None:
        points.append((step, {name: value for name, value in values.items() if name not in OF_THE_CLOCK}))

    return Trainer(spec, device=device, report=report, **kwargs), points


def assert_alike(points: Points, expected: Points, *, rel: float) -> None:
    assert [(step, set(values)) for step, values in points] == [(step, set(values)) for step, values in expected]
    for (step, ours), (_, theirs) in zip(points, expected, strict=True):
        for key in theirs.keys() - {"knn_top1"}:
            assert ours[key] == pytest.approx(theirs[key], rel=rel, abs=rel), (step, key)


@pytest.mark.parametrize(("backbone", "batch_size"), [("conv_small", 128), ("resnet18", 128), ("vit_tiny", 16)])
def test_training_is_that_of_the_cpu(tiny_spec, device, backbone, batch_size):
    if device.type == "cpu" and backbone == "vit_tiny":
        pytest.skip("the CPU against itself, which conv_small shows in less time")
    model = {"backbone": backbone, "width": None if backbone == "vit_tiny" else 4}
    spec = tiny_spec(model=model, training={"log_every_steps": 1, "lr": 1e-3, "batch_size": batch_size})
    there, points = recorded(spec, device)
    there.train_steps(6)
    here, expected = recorded(spec, "cpu")
    here.train_steps(6)
    assert_alike(points[:3], expected[:3], rel=5e-3)  # later steps amplify the rounding
    assert_alike(points, expected, rel=0.1)


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("adamw", "float32"),
        ("lars", "bfloat16"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (("sgd", "float32"), ("lars", "float32"), ("adamw", "bfloat16"), ("sgd", "bfloat16"))
        ),
    ],
)
def test_a_run_goes_on_from_its_state(tiny_spec, tmp_path, device, optimizer, precision):
    spec = tiny_spec(training={"epochs": 2, "optimizer": optimizer, "precision": precision})
    whole, expected = recorded(spec, device)
    whole.fit()
    first, before = recorded(spec, device)
    first.train_steps(9)
    first.save(tmp_path / "state.pt")
    second, after = recorded(spec, device)
    second.load(tmp_path / "state.pt")
    second.fit()
    assert_alike(before + after, expected, rel=1e-6 if device.type == "cpu" else 5e-2)
    elsewhere, _ = recorded(spec, "cpu")
    elsewhere.load(tmp_path / "state.pt")
    assert elsewhere.step == 9
    for name, tensor in elsewhere.state_dict()["model"].items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, first.state_dict()["model"][name].cpu())


def test_an_exported_encoder_works_elsewhere(tiny_spec, tmp_path, device):
    made, _ = recorded(tiny_spec(training={"epochs": 1, "warmup_epochs": 0}), device)
    made.fit()
    made.export_encoder(tmp_path)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    loaded = load_encoder(tmp_path)
    with torch.no_grad(), arithmetic():
        expected = made.encoder.eval()(images.to(device)).cpu()
    torch.testing.assert_close(loaded(images), expected, rtol=1e-4, atol=1e-5)


def test_views_are_the_same_on_every_device(tiny_spec, device):
    augmentation = {
        "crop_scale": [0.3, 1.0],
        "flip": 0.5,
        "jitter": 0.5,
        "grayscale": 0.2,
        "blur": 0.5,
        "solarize": 0.2,
    }
    there, here = (Trainer(tiny_spec(data={"augmentation": augmentation}), device=x) for x in (device, "cpu"))
    images = here.data.train_images[:128]
    with arithmetic():
        views = there._batches.views(images.to(device), "step", 3)
    assert views.device.type == device.type
    torch.testing.assert_close(views.cpu(), here._batches.views(images, "step", 3), rtol=1e-4, atol=1e-4)


def test_float32_is_float32(device):
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    x, kernel = (torch.randn(64, 64, 3, 3, generator=generator).to(device) for _ in range(2))
    with arithmetic():
        product, convolution = x.flatten(1) @ kernel.flatten(1).T, torch.conv2d(x, kernel)
    exact = x.double().flatten(1) @ kernel.double().flatten(1).T
    for found in (product, convolution.flatten(1)):
        assert (found - exact).norm() / exact.norm() < 1e-5  # TF32 leaves about 3e-4
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


def test_bfloat16_is_what_the_forward_pass_runs_in(device):
    x = torch.rand(4, 4, device=device)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(device, dtype):
            assert (x @ x).dtype == dtype
    assert resolve_precision("bfloat16", device) == torch.bfloat16


def test_gradients_have_the_layout_of_their_weights(tiny_spec, device):
    made, _ = recorded(tiny_spec(model={"backbone": "resnet18"}, training={"compile": False}), device)
    made.train_steps(1)

    def layout(x):  # the stride of a dimension of one entry says nothing
        return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]

    layouts = {name: (layout(p), layout(p.grad)) for name, p in made._model.named_parameters()}
    assert not {name: pair for name, pair in layouts.items() if pair[0] != pair[1]}
