"""For all tiers: which tests share a process, what a test leaves of it, and how patient Hypothesis is.

How long an example takes says how busy the machine is, not whether it holds. Examples are the same in each run, so that
`make test` tells of a change what it told before; `make test-all` looks for new ones.
"""

import functools
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", settings.get_profile("patient"), derandomize=False)
settings.load_profile("patient")

_DEAR = ("ray", "browser")
"""Groups of files that one process takes, before all others: a cluster, or a service and a browser, is had once."""


@functools.cache
def _group(file: Path) -> str:
    """Which of them a file is of; empty: none."""
    if file.parent.name == "browser":
        return "browser"
    return "ray" if "pytest.mark.ray" in file.read_text() else ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: pytest-xdist hands out work in this order (`--no-loadscope-reorder`)."""
    order = [*_DEAR, ""]
    items.sort(key=lambda item: order.index(_group(item.path)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, to which a group is one file."""
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") != "loadfile":
        return None

    class GroupsAndFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return _group(config.rootpath / file) or file

    return GroupsAndFiles(config, log)


@pytest.fixture(autouse=True)
def _the_process_is_left_as_it_was() -> Iterator[None]:
    """Commands that are run within a test's process set its umask, what signals do, and where its logs go."""
    umask = os.umask(0o022)
    os.umask(umask)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in signals.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
