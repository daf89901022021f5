"""Operations and bytes of a step against what is known of a network and of its losses."""

import pytest
import torch
from step_cost import Operator, Rates, StepCost, count_step

from adadim_core.spec import validate_spec
from adadim_core.trainer import Trainer

pytestmark = pytest.mark.slow  # a prototype and a count of operations: no promise of the README

N, WIDTH, HIDDEN, OUT = 16, 4, 24, 40


@pytest.fixture
def cost() -> StepCost:
    projector = {"layers": 2, "hidden": HIDDEN, "out": OUT}
    spec = validate_spec(
        {
            "name": "counted",
            "model": {"backbone": "conv_small", "width": WIDTH, "projector": projector},
            "training": {"batch_size": N, "precision": "float32", "optimizer": "sgd"},
        }
    )
    return count_step(Trainer(spec, device="cpu"))


def test_operations_of_convolutions_are_those_of_the_network(cost):
    # 8x8 pixels; sides halve twice. A pixel takes 9 * channels in * channels out, twice (multiply, add).
    layers = [(64, 1, WIDTH), (16, WIDTH, 2 * WIDTH), (4, 2 * WIDTH, 4 * WIDTH)]
    forward = 2 * N * sum(pixels * 9 * read * written * 2 for pixels, read, written in layers)
    # Backward computes the gradients of weights and of inputs, but not of the images.
    images = 2 * N * layers[0][0] * 9 * layers[0][1] * layers[0][2] * 2
    assert cost.by_kind()["convolutions"][1] == 3 * forward - images


def test_products_of_matrices_hold_those_of_the_projector(cost):
    projector = 3 * 2 * (2 * N) * (4 * WIDTH * HIDDEN + HIDDEN * OUT)
    assert cost.by_kind()["products of matrices"][1] > projector
    assert cost.operations == sum(operations for _, operations, _ in cost.by_kind().values())


def test_an_operator_takes_the_longer_of_its_operations_and_its_bytes():
    operators = [
        Operator("convolution", "convolutions", torch.bfloat16, operations=600, bytes=10),
        Operator("add", "everything else", torch.bfloat16, operations=0, bytes=50),
        Operator("mm", "products of matrices", torch.float32, operations=300, bytes=10),
    ]
    cost = StepCost(operators)
    assert cost.floor_s(Rates(matrix=100, copy=10)) == 6 + 5 + 3
    assert cost.floor_s(Rates(matrix=100, copy=10), joined=True) == 6 + 3
    assert cost.floor_s(Rates(matrix=100, copy=10, matrix_float32=50)) == 6 + 5 + 6


def test_bytes_are_what_is_read_and_written_once():
    from step_cost import _Counter

    x, y = torch.ones(10, 4), torch.ones(4, 6)
    with _Counter() as counter:
        (x @ y).add_(1)
        x.view(4, 10).transpose(0, 1)  # moves nothing
    assert [(o.name, o.bytes, o.operations) for o in counter.cost.operators] == [
        ("mm", 4 * (40 + 24 + 60), 2 * 10 * 4 * 6),
        ("add_", 4 * (60 + 60), 0),
    ]
