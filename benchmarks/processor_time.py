"""Processor time of service processes and of the PostgreSQL behind them, which other load on the machine leaves alone.

Owns the counting only. Time of database connections that have ended is in their parent's account, so none is lost.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds of processor time, user and system."""

    service: float
    database: float

    def __sub__(self, earlier: "ProcessorTime") -> "ProcessorTime":
        return ProcessorTime(self.service - earlier.service, self.database - earlier.database)

    @property
    def total(self) -> float:
        return self.service + self.database

    def shown(self, count: int) -> str:
        """Milliseconds for each of so many."""
        each = [1000 * seconds / count for seconds in (self.total, self.service, self.database)]
        return f"{each[0]:.2f} ms of processor time each (service {each[1]:.2f}, database {each[2]:.2f})"


def spent(services: Sequence[int], postgres: Path) -> ProcessorTime:
    """What processes have taken since they started.

    Args:
        services: process ids.
        postgres: the database's folder.
    """
    postmaster = psutil.Process(int((postgres / "postmaster.pid").read_text().split()[0]))
    own = sum(_seconds(psutil.Process(pid)) for pid in services)
    ended = postmaster.cpu_times()
    database = _seconds(postmaster) + ended.children_user + ended.children_system
    return ProcessorTime(own, database + sum(_seconds(child) for child in postmaster.children(recursive=True)))


def _seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
