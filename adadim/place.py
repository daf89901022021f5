"""Where a service on this machine keeps its state: its address and its admin's token, among others.

Both sides must agree on it: the service writes there what its clients read.
"""

import os
from pathlib import Path

import platformdirs

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine in an address."""


def default_state_dir() -> Path:
    """Where state lies by default: the user's state directory, or /var/lib for root, as system services have it.

    Raises:
        ValueError: the user has no home directory.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/adadim")
    try:
        return platformdirs.user_state_path("adadim")
    except RuntimeError:  # a user who has neither HOME nor an entry in the system's list of users
        raise ValueError("ADADIM_STATE_DIR: set it, or HOME: this user has no home directory") from None
