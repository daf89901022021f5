"""Which arithmetic a trial runs in."""

import pytest
import torch

from adadim_core import precision
from adadim_core.precision import autocast, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_takes_bfloat16_where_the_cpu_has_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", CPU) == expected


def test_a_choice_is_kept():
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


def test_autocast_is_on_for_bfloat16_only():
    x = torch.rand(4, 4)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert (x @ x).dtype == dtype
