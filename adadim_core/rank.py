"""The effective rank of Z that alpha follows, measured over several batches.

Owns how the batches count together. Does not own the estimator (information) or which batches there are (trainer).
"""

import torch
from torch import Tensor

from adadim_core.information import effective_rank


class RankMeter:
    """Takes Z of one batch after the other. Gives the mean of their ranks, or one rank of rows pooled from all.

    A rank is at most N - 1. Where D is larger, the rank of a batch says how full the batch is, not how many dimensions
    Z has: more rows lift that bound.
    """

    def __init__(self, rows: int | None, *, computed_in: torch.dtype) -> None:
        """rows: how many to pool, at most; None: mean over batches. computed_in: as for `effective_rank`."""
        self._rows = rows
        self._dtype = computed_in
        self._pool: list[Tensor] = []
        self._ranks: list[Tensor] = []
        self.n = 0
        """Rows that a rank is measured on."""

    def take(self, z: Tensor) -> None:
        """Add (N, D) Z of a batch."""
        if self._rows is None:
            self._ranks.append(effective_rank(z, computed_in=self._dtype))
            self.n = len(z)
        else:
            self._pool.append(z[: self._rows - self.n])
            self.n += len(self._pool[-1])

    def value(self) -> Tensor:
        """The rank of what was taken."""
        if self._rows is None:
            return torch.stack(self._ranks).mean()
        return effective_rank(torch.cat(self._pool), computed_in=self._dtype)
