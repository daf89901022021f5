"""Which process a number means: that of a process may be another's by the next look."""

from pathlib import Path

import psutil

_PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """What tells a running process from all others on this machine, now and later; None if there is none.

    On Linux the boot and the ticks from it to the process's start, which no step of the clock changes. Elsewhere the
    time of its start, to the minute.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _by_time(pid)
    state, *_, ticks = stat.rpartition(")")[2].split()[:20]  # the name before it may hold anything
    return None if state == "Z" else f"{boot} {ticks}"


def _by_time(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time() // 60:.0f}"
    except psutil.Error:
        return None
