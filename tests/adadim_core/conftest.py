"""Specs small enough to train in a second, and seeded tensors."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from adadim_core.spec import ExperimentSpec, validate_spec

Draw = Callable[..., torch.Tensor]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m device` picks the tests that run on a GPU as well, where there is one."""
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: torch finds no CUDA")
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device there is: a test that takes it runs on the CPU, and on a GPU as well where there is one."""
    return torch.device(request.param)


@pytest.fixture
def draw() -> Draw:
    """Seeded normal tensors, float64 unless told otherwise."""
    generator = torch.Generator().manual_seed(0)

    def _draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return _draw


@pytest.fixture
def tiny_spec() -> Callable[..., ExperimentSpec]:
    """A spec that trains an epoch in a tenth of a second; sections given by keyword are merged in."""

    def _spec(**sections: dict[str, Any]) -> ExperimentSpec:
        document: dict[str, Any] = {
            "name": "tiny",
            "model": {
                "backbone": "conv_small",
                "width": 4,
                "projector": {"layers": 2, "hidden": 32, "out": 32},
            },
            "training": {
                "epochs": 4,
                "batch_size": 128,
                "optimizer": "adamw",
                "lr": 2e-3,
                "warmup_epochs": 1,
                "log_every_steps": 4,
                "precision": "float32",
            },
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        return validate_spec(document)

    return _spec
