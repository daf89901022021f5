"""The chaos test in short; `make chaos` is the long one.

Without the loss of Ray's head and nodes, whose return takes most of the long one's time.
"""

import pytest

from tests.chaos.run import Chaos, run


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_runs_twice_whatever_is_killed() -> None:
    chaos = Chaos(
        seed=11,
        seconds=0,
        kills=4,
        experiments=3,
        epochs=20,
        slots=3,
        pause_s=(1.0, 2.0),
        patience_s=400,
        kinds=("replica", "postgres", "driver", "trial actor"),
        nodes=0,
    )
    assert run(chaos) == []
