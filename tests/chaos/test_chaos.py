"""The chaos test in short; `make chaos` is the long one. Opt-in: it wants a machine with nothing else to do."""

import os

import pytest

from tests.chaos.run import Chaos, run


@pytest.mark.skipif("ADADIM_CHAOS_TEST" not in os.environ, reason="set ADADIM_CHAOS_TEST to run it")
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_runs_twice_whatever_is_killed() -> None:
    chaos = Chaos(seed=11, seconds=20, kills=6, experiments=4, epochs=15, slots=3, patience_s=600)
    assert run(chaos) == []
