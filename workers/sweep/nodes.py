"""Whether the nodes of the cluster can run trials: adadim in the run's version, what it needs, and the data.

Owns the question to every node that trials may be placed on, and how the answers read. Asked beside the first trials,
since nobody should wait for it: a trial fails on such a node anyhow, and says less.
"""

import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adadim_core.spec.sections import ResourcesSpec
from workers.errors import RunError

_LOOK_SECONDS = 2.0
_PACKAGES = ("adadim_core", "workers", "torch", "optuna", "pyarrow", "safetensors")


class NodeCheck:
    """Asks every node once, those that join later too. Used by one thread."""

    def __init__(self, resources: ResourcesSpec, data: Iterable[str]) -> None:
        """
        Args:
            resources: What a trial takes: nodes too small for any of its processes are not asked.
            data: Files and folders that every node must see, as absolute paths.
        """
        self._cpus = resources.cpus_per_worker
        self._wanted = (_own_version(), _PACKAGES, tuple(data))
        self._asked: set[str] = set()
        self._waiting: dict[ray.ObjectRef[str], str] = {}
        self._looked = -_LOOK_SECONDS
        self._remote = ray.remote(num_cpus=0, max_retries=0)(_inspector())

    def look(self) -> None:
        """Ask nodes that are new, and read what came of earlier questions. Takes no time.

        Raises:
            RunError: nodes that cannot run trials. One line for all of them.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS and not self._waiting:
            return
        self._looked = time.monotonic()
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["Alive"] and node["NodeID"] not in self._asked and node["Resources"].get("CPU", 0) >= self._cpus:
                self._asked.add(node["NodeID"])
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                question = self._remote.options(scheduling_strategy=here).remote(*self._wanted)
                self._waiting[question] = node["NodeManagerHostname"]
        if not self._waiting:
            return
        ready, _ = ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        found = [(self._waiting.pop(answer), _answer(answer)) for answer in ready]
        if bad := [(node, problem) for node, problem in found if problem]:
            raise RunError(told(bad))


def told(bad: Iterable[tuple[str, str]]) -> str:
    """Nodes and what is wrong with them, for people: those with the same problem together."""
    nodes: dict[str, list[str]] = {}
    for node, problem in bad:
        nodes.setdefault(problem, []).append(node)
    return "; ".join(
        f"node {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''} {problem}"
        for problem, names in nodes.items()
    )


def _answer(reference: "ray.ObjectRef[str]") -> str:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError:  # the node has gone, or is too full for one more process: trials will tell
        return ""


def _own_version() -> str:
    try:
        return version("adadim")
    except PackageNotFoundError:  # it runs from a folder, which Ray brings to the nodes
        return ""


def _inspector() -> Callable[..., str]:
    """A function that travels by its code: on a node without adadim there is no module it could be found in."""

    def inspect(wanted: str, packages: tuple[str, ...], data: tuple[str, ...]) -> str:
        import importlib.metadata
        import importlib.util
        import sys
        from os import R_OK, access
        from pathlib import Path

        install = f"install adadim[workers]{f'=={wanted}' if wanted else ''} into {sys.executable} there"
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            return f"has no {', '.join(missing)}: {install}"
        try:
            installed = importlib.metadata.version("adadim")
        except importlib.metadata.PackageNotFoundError:
            installed = wanted
        if wanted and installed != wanted:
            return f"has adadim {installed}, this run {wanted}: {install}"
        unseen = [path for path in data if not access(Path(path).expanduser(), R_OK)]
        return f"does not see {', '.join(unseen)}: mount the data there under the same path" if unseen else ""

    return inspect
