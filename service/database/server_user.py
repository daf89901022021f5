"""Runs a command as a user that is not root: `python -I server_user.py UID GID COMMAND...`. PostgreSQL refuses root.

A program of its own, run by path, since what it does to its process must not happen in a process with threads. The
command keeps one thing of root's: it gets through folders that are closed to others, so that none need be opened for
it, neither those above the state directory nor those above the programs.
"""

import ctypes
import os
import sys
from pathlib import Path

# linux/capability.h, linux/prctl.h
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _capability() -> int | None:
    """The smaller of the two capabilities that root has here: containers leave it the larger one only.

    None: it has neither, or the system knows none.
    """
    if not sys.platform.startswith("linux"):
        return None
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    permitted = int(status["CapPrm"], 16)
    return next((c for c in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if permitted >> c & 1), None)


def become(uid: int, gid: int) -> None:
    """Give up root for good, but for the way through closed folders where root has that."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept = _capability()
    if kept is not None:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)  # which root's process does for good, all three of them
    os.setuid(uid)
    if kept is None:
        return
    bit = 1 << kept
    data = (_Data * 2)(_Data(bit, bit, bit), _Data(0, 0, 0))
    if libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, kept, 0, 0)


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - what the service names, and no shell
