"""For all tiers: how long an example takes says how busy the machine is, not whether it holds."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a cluster, or a service and a browser, is one group to pytest-xdist: first, as it takes longest."""
    groups = ["ray", "browser"]
    places = {item: _group(item) for item in items}
    for item, group in places.items():
        if group in groups:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups.index(places[item]) if places[item] in groups else len(groups))


def _group(item: pytest.Item) -> str:
    if item.get_closest_marker("ray"):
        return "ray"
    return "browser" if item.path.parent.name == "browser" else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup`, but what is of no group goes by its file: fixtures are shared within one."""
    from xdist.scheduler import LoadGroupScheduling

    if config.getvalue("dist") != "loadgroup":
        return None

    class GroupsAndFiles(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found: str = super()._split_scope(nodeid)
            return found.partition("::")[0]

    return GroupsAndFiles(config, log)


@pytest.fixture(autouse=True)
def _the_process_is_left_as_it_was() -> Iterator[None]:
    """Commands that are run within a test's process set its umask and where its logs go."""
    umask = os.umask(0o022)
    os.umask(umask)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
