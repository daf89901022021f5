"""How many processors this process may use: not what the machine has, but what is left to it."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Processors of this process's affinity (taskset, a batch system's share), and no more than a container's quota."""
    # Python 3.13 has the first as os.process_cpu_count.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(allowed, allowed if quota is None else math.ceil(quota)))


def _quota() -> float | None:
    """Processors' worth of time a container may use; None: as much as there is."""
    for read in (_quota_v2, _quota_v1):
        try:
            return read()
        except (OSError, ValueError):
            continue
    return None


def _quota_v2() -> float | None:
    limit, period = (_CGROUP / "cpu.max").read_text().split()
    return None if limit == "max" else int(limit) / int(period)


def _quota_v1() -> float | None:
    limit, period = (int((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return limit / period if limit > 0 else None
