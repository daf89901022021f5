"""The checks of the chaos test see what they are there for: a trial's checkpoint against what it reported."""

import os
from pathlib import Path

import pytest

from adadim_core.checkpoint import write_checkpoint
from tests.chaos.checks import stopped_trial_problems
from workers.storage.spool import Spool, SpoolReader

DUE = [2, 4, 5, 7, 9, 10]
"""The steps at which the loss is reported."""


@pytest.mark.parametrize(
    ("saved", "measured", "reported", "killed", "problem"),
    [
        (10, [5, 7, 9, 10], 10, False, None),
        (6, [2, 4, 5], 5, False, None),
        (5, [2, 4, 5, 7], 7, True, None),
        (5, [2, 4], 4, True, "has measured 4 last"),
        (5, [2, 4, 5, 7], 7, False, "should have reported 5 last, and reported 7"),
        (5, [2, 4, 5], 4, False, "the service has 4"),
    ],
)
def test_a_checkpoint_that_does_not_fit_what_was_reported_is_found(
    tmp_path: Path, saved: int, measured: list[int], reported: int, killed: bool, problem: str | None
) -> None:
    path = tmp_path / "points" / "0000-1-aaaaaa.jsonl"
    spool = Spool(path, 0)
    for step in measured:
        spool.append(step, step / 5, {"loss": 1.0})
    spool.append(measured[-1], measured[-1] / 5, {"knn_top1": 0.5})
    spool.close()
    SpoolReader(path).acknowledge(path.stat().st_size)
    checkpoint = tmp_path / "trials" / "0000" / "checkpoint.pt"
    write_checkpoint(checkpoint, {"step": saved})
    moved = checkpoint.stat().st_mtime + (-60 if killed else 60)
    os.utime(checkpoint, (moved, moved))
    found = stopped_trial_problems(tmp_path, 0, DUE, reported)
    assert problem in found[0] if problem else found == []


def test_what_was_not_delivered_is_not_missed(tmp_path: Path) -> None:
    """Its driver was killed, and the experiment cancelled: nobody may report it any more."""
    spool = Spool(tmp_path / "points" / "0000-1-aaaaaa.jsonl", 0)
    spool.append(5, 1.0, {"loss": 1.0})
    spool.close()
    write_checkpoint(tmp_path / "trials" / "0000" / "checkpoint.pt", {"step": 5})
    assert stopped_trial_problems(tmp_path, 0, DUE, 0) == []
