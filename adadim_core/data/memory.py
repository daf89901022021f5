"""How much of a data set may be held in memory; larger sets stream from disk."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from adadim_core.data.errors import DataError

MEMORY_VARIABLE = "ADADIM_DATA_MEMORY"

_SHARE = 0.25
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
# Limit, use, and what of that is file cache that goes when memory is needed: in version 2, and in version 1.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def memory_limit() -> int:
    """The most bytes of images to hold: ADADIM_DATA_MEMORY ("500M", "20G"), or a quarter of the available memory.

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
    return max(0, min([available, *_left_in_container()]))


def _left_in_container() -> Iterator[int]:
    for limit_file, use_file, stat_file, reclaimable in _CGROUP_FILES:
        try:
            limit, use, stat = ((_CGROUP / name).read_text().strip() for name in (limit_file, use_file, stat_file))
        except OSError:
            continue
        if limit.isdigit() and use.isdigit():  # without a limit version 2 says "max", version 1 a number beyond any
            found = re.search(rf"^{reclaimable} (\d+)$", stat, re.MULTILINE)
            yield int(limit) - int(use) + (int(found[1]) if found else 0)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
