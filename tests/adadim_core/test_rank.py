"""The rank that alpha follows: the mean over batches, and one rank of pooled rows."""

import pytest
import torch

from adadim_core.information import effective_rank
from adadim_core.rank import RankMeter


def measured(rows: int | None, *batches: torch.Tensor) -> tuple[float, int]:
    meter = RankMeter(rows, computed_in=torch.float32)
    for batch in batches:
        meter.take(batch)
    return meter.value().item(), meter.n


def test_the_mean_over_batches_is_bound_by_the_batch_and_the_pool_is_not():
    generator = torch.Generator().manual_seed(0)
    batches = torch.randn(8, 32, 128, generator=generator)
    mean, n = measured(None, *batches)
    assert n == 32
    assert mean == pytest.approx(sum(effective_rank(batch).item() for batch in batches) / 8)
    assert mean < 31
    pooled, n = measured(256, *batches)
    assert n == 256
    assert pooled == pytest.approx(effective_rank(batches.flatten(0, 1)).item())
    assert pooled > 100


def test_no_more_rows_are_pooled_than_asked_for():
    batches = torch.randn(4, 32, 16, generator=torch.Generator().manual_seed(1))
    pooled, n = measured(70, *batches)
    assert n == 70
    assert pooled == pytest.approx(effective_rank(batches.flatten(0, 1)[:70]).item())
