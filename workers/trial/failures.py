"""What a trial raised: how often in this run, counted across its processes, and the account of it for people."""

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from adadim_core.data.errors import DataError
from workers.context import RunContext
from workers.storage.folder import read_json

LOST_PROCESS_RETRIES = 3
"""How often a trial resumes in new processes after one of its processes or nodes died, which is no failure of it."""


class Diverged(Exception):  # noqa: N818 - what happened to the training
    """The loss is not finite any more: training further is useless."""


class Failures:
    """The failures of one trial in this run."""

    def __init__(self, context: RunContext, number: int) -> None:
        self._run = context.run
        self._storage = context.storage
        self._file = context.storage.failures(number)
        self._storage.fetch(self._file)
        stored = read_json(self._file) or {}
        known = stored if stored.get("run") == self._run else {}  # a new attempt starts the count again
        self.count: int = known.get("count", 0)
        self.account: str = known.get("account", "")
        """Description of the last one."""

    def add(self, account: str) -> None:
        """Count one more failure."""
        self.count, self.account = self.count + 1, account
        self._storage.write_json(self._file, {"run": self._run, "count": self.count, "account": account})


def device_is_lost() -> bool:
    """Whether the GPU of this process takes no work any more, as after an illegal access: every later call fails too.

    The device is asked, not the error that was raised: of one that is just full, training may go on.
    """
    torch = sys.modules.get("torch")  # the driver imports this module, and does without torch
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def is_final(error: BaseException) -> bool:
    """Whether another try would end in the same way. The message of such an error says all."""
    from adadim_core.checkpoint import DataChangedError
    from adadim_core.memory import GpuMemoryError

    return isinstance(error, Diverged | DataError | DataChangedError | GpuMemoryError)


def failed_step(error: BaseException, account: str) -> dict[str, Any]:
    """The last step of a trial that failed, as Ray Tune takes it."""
    from adadim_core.checkpoint import DataChangedError

    return {"error": account, "refused": isinstance(error, DataChangedError), "done": True}


def describe(error: BaseException, log: Sequence[str] = ()) -> str:
    """An error for people: what it is in the first line, where it came from below, then what was logged before.

    Where it is one that people can mend, the first line says all.
    """
    account = f"{type(error).__name__}: {error}"
    if not is_final(error):
        account += f"\n\n{''.join(traceback.format_exception(error))}"
    return account + ("\nlast lines of the log:\n" + "\n".join(log) if log else "")
