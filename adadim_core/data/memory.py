"""How much of a data set may be held in memory; what is larger streams from disk."""

import os
import re
from pathlib import Path

from adadim_core.data.errors import DataError

MEMORY_VARIABLE = "ADADIM_DATA_MEMORY"

_SHARE = 0.25
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_limit() -> int:
    """Bytes of images to hold at most: ADADIM_DATA_MEMORY ("500M", "20G"), or a quarter of the memory available.

    Processes that train one model on one machine share the quarter.

    Raises:
        DataError: the variable is not a size.
    """
    given = os.environ.get(MEMORY_VARIABLE)
    if given:
        return parse_size(given)
    return int(_available() * _SHARE / int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def parse_size(text: str) -> int:
    """Bytes from "1000", "500M" or "1.5G" (powers of 1024)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise DataError(f"{MEMORY_VARIABLE}={text} is not a size; write bytes, or a number with K, M, G or T")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def size_text(size: int) -> str:
    """A size as a person would write it."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _available() -> int:
    if _MEMINFO.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
        available = int(found[1]) * 1024 if found else _physical()
    else:
        available = _physical()
    if _CGROUP_LIMIT.exists() and (limit := _CGROUP_LIMIT.read_text().strip()).isdigit():
        available = min(available, int(limit))
    return available


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
