"""Rows of a batch before they are compared: centred, with rounding removed, and scaled to length one.

Shared by the losses and the estimators. Shapes: N samples of D dimensions.
"""

import torch
from torch import Tensor

# Variation of this many units of precision is rounding: sums in float32 and float64 accumulate their errors, half
# precision is summed in float32 and rounded at the end of a layer.
_UNITS, _UNITS_OF_HALF = 16, 1
ERROR = 0.25
"""Standard deviation of one rounding, in units of precision."""


def unit_rows(x: Tensor, zero: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, D) rows at length one, and (N,) whether a row is zero: it has no direction, stays zero, gets no gradient.

    Args:
        x: of any finite scale.
        zero: rows to treat as zero; None: those that are zero.
    """
    magnitude_N1 = x.detach().abs().amax(dim=1, keepdim=True)
    zero_N1 = magnitude_N1 == 0 if zero is None else zero[:, None]
    # Dividing by the largest entry first keeps the squares from overflowing; the direction does not depend on it.
    x = torch.where(zero_N1, 0.0, x / torch.where(zero_N1, 1.0, magnitude_N1))
    length_N1 = torch.where(zero_N1, 1.0, x.square().sum(dim=1, keepdim=True)).sqrt()
    return x / length_N1, zero_N1.squeeze(1)


@torch.no_grad()
def rounding(x: Tensor, precision: torch.dtype) -> Tensor:
    """(D,) one unit of the dtype's precision in each column: eps times the column's largest entry.

    A column of small entries was computed from others, so no less than eps times the geometric mean of all columns'
    largest entries; a few large columns do not raise that.
    """
    magnitude_D = x.abs().amax(dim=0)
    present_D = magnitude_D > 0
    typical = (torch.where(present_D, magnitude_D, 1.0).log().sum() / present_D.sum().clamp(min=1)).exp()
    return torch.finfo(precision).eps * torch.maximum(magnitude_D, typical)


def center(x: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x with the mean of each column subtracted; a column in which only rounding is left is 0.

    Returns:
        (N, D) the centred rows, (N,) whether only rounding is left of a row, and (D,) the size of the rounding errors.
    """
    unit_D = rounding(x, precision)
    x = x - x.mean(dim=0)
    relative_ND = x.detach() / (unit_D * (_UNITS if torch.finfo(precision).bits >= 32 else _UNITS_OF_HALF))
    constant_D = relative_ND.square().mean(dim=0) <= 1
    zero_N = torch.where(constant_D, 0.0, relative_ND).abs().amax(dim=1) <= 1
    return torch.where(constant_D, 0.0, x), zero_N, torch.where(constant_D, 0.0, unit_D * ERROR)
