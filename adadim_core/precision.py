"""Arithmetic: the dtype of the forward pass, and full precision for the mathematics of the method.

Owns the choice behind `training.precision`, the wrapper that keeps losses and estimators in full precision, and the
switches of torch behind both. TF32 is never used: float32 (losses, estimators, networks with `precision: float32`) has
24 bits of mantissa on every device; bfloat16 is there for speed.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any, Literal, ParamSpec

import torch
from torch import Tensor

_P = ParamSpec("_P")


def resolve_precision(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """The dtype of the forward pass. auto: bfloat16 where the hardware multiplies it natively, float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Context of the forward pass: autocast to `dtype`, or nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def arithmetic(*, tune: bool = False) -> Iterator[None]:
    """Within it, float32 is float32: no TF32 in matrix products and convolutions. Earlier settings return.

    Args:
        tune: let cuDNN try its algorithms for each new shape of convolution. Pays off if shapes are constant.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        cudnn.benchmark, cudnn.allow_tf32 = tune, False
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before[:2]
        torch.set_float32_matmul_precision(before[2])


def full_precision(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Run outside autocast, with half-precision tensors widened to float32. float64 stays float64."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device = next((v.device.type for v in chain(args, kwargs.values()) if isinstance(v, Tensor)), None)
        if device is None:
            raise TypeError(f"{function.__name__} takes torch tensors; torch.as_tensor makes them from arrays")
        with torch.autocast(device, enabled=False):
            return function(*map(_widen, args), **{k: _widen(v) for k, v in kwargs.items()})

    return wrapper


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype not in (torch.float32, torch.float64):
        return value.float()
    return value


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(
            torch.cpu, "get_capabilities", dict
        )()  # torch 2.11 may lack it: float32 then
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
