"""The collapse watch: whether the effective rank of R has fallen below a share of its maximum so far.

Owns the decision and its state. Does not own the measurement or what follows from it (trainer).
"""

import math
from typing import Any

from adadim_core.spec.sections import CollapseSpec


class CollapseWatch:
    """Flags a trial once, at the first measured rank that is too low."""

    def __init__(self, spec: CollapseSpec) -> None:
        self._share = spec.share
        self._maximum = 0.0
        self.step: int | None = None
        """Step at which the trial was flagged; None: it was not."""

    def observe(self, step: int, rank: float) -> bool:
        """Take an effective rank of R. Returns whether it is the one that flags the trial.

        A rank that is not finite means that training diverged, not that it collapsed; it is ignored.
        """
        if self.step is not None or not math.isfinite(rank):
            return False
        self._maximum = max(self._maximum, rank)
        if rank >= self._share * self._maximum:
            return False
        self.step = step
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"maximum": self._maximum, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._maximum, self.step = state["maximum"], state["step"]
