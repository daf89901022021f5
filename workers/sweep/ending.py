"""From the request to end a run to its end: trials save their checkpoints, the driver waits for them.

Owns how long that may take. Requests to end are interruption.py's.
"""

import os
import time
from collections.abc import Iterable

from ray.tune.experiment import Trial

from workers.interruption import Interruption
from workers.trial.stop_signal import forget_stop_signal, give_stop_signal

# Within a Ray job SIGKILL follows SIGTERM after 3 s, or what RAY_JOB_STOP_WAIT_TIME_S in its environment says.
_RAY_STOP_SECONDS = 3.0
_LONGEST = 15.0
_REPORT_SECONDS = 2.0
"""Left for the outcome to reach the service."""


class Ending:
    """Checked repeatedly by the driver while trials run; raises `Interrupted` when the run must end."""

    def __init__(self, run: str, interruption: Interruption) -> None:
        self._run = run
        self._interruption = interruption
        self._deadline: float | None = None

    def check(self, trials: Iterable[Trial]) -> None:
        """Raise `Interrupted` if an end was requested and every running trial has saved, or time is up."""
        if not self._interruption.reason:
            return
        if self._interruption.at_once:
            self._interruption.check()
        if self._deadline is None:
            self._deadline = time.monotonic() + _patience()
            print(f"ending ({self._interruption.reason}): running trials save their checkpoints", flush=True)
            give_stop_signal(self._run)
        training = [trial for trial in trials if trial.status == Trial.RUNNING]
        saved = all((trial.last_result or {}).get("interrupted") for trial in training)
        if saved:
            forget_stop_signal(self._run)  # not sooner: a process that has not seen it yet must still see it, and save
        if saved or time.monotonic() >= self._deadline:
            self._interruption.check()


def _patience() -> float:
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return _LONGEST
    allowed = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S") or _RAY_STOP_SECONDS)
    return min(max(allowed - _REPORT_SECONDS, 0.5), _LONGEST)
