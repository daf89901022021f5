"""Whether the nodes of the cluster can run trials: adadim in the run's version, what it needs, and the data.

Owns the check that runs on every node which trials may be placed on, and its messages. It runs in parallel to the first
trials, which it does not delay: a trial fails on such a node in any case, with a less helpful error.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adadim_core.spec.sections import ResourcesSpec
from workers.errors import RunError

_LOOK_SECONDS = 2.0
_PACKAGES = ("adadim_core", "workers", "torch", "optuna", "pyarrow", "safetensors")


class NodeCheck:
    """Checks every node once, including those that join later. Used by one thread."""

    def __init__(self, resources: ResourcesSpec, data: Sequence[str], folder: Path) -> None:
        """
        Args:
            resources: What a trial takes: nodes too small for any of its processes are not checked.
            data: Files and folders of which every node must see at least one.
            folder: Where relative ones begin, on nodes without data roots.
        """
        self._cpus = resources.cpus_per_worker
        self._wanted = (_own_version(), _PACKAGES, tuple(data), str(folder))
        self._asked: set[str] = set()
        self._waiting: dict[ray.ObjectRef[str], str] = {}
        self._looked = -_LOOK_SECONDS
        self._remote = ray.remote(num_cpus=0, max_retries=0)(_inspector())

    def look(self) -> None:
        """Start the check on new nodes, and read the results of earlier ones. Does not block.

        Raises:
            RunError: some nodes cannot run trials. One line for all of them.
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
            raise RunError(described(bad))


def described(bad: Iterable[tuple[str, str]]) -> str:
    """Nodes and their problems as one line, nodes with the same problem together."""
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
    except ray.exceptions.RayError:  # the node has gone, or has no room for one more process: its trials will show
        return ""


def _own_version() -> str:
    try:
        return version("adadim")
    except PackageNotFoundError:  # it runs from a folder, which Ray brings to the nodes
        return ""


def _inspector() -> Callable[..., str]:
    """The check, nested so that it is pickled by value: a node without adadim has no module to import it from."""

    def inspect(wanted: str, packages: tuple[str, ...], data: tuple[str, ...], folder: str) -> str:
        import importlib.metadata
        import importlib.util
        import sys
        from os import R_OK, access, environ, pathsep
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
        # As adadim_core.data.roots has it; an absolute path stays what it is.
        beginnings = [root for root in environ.get("ADADIM_DATA_ROOTS", "").split(pathsep) if root] or [folder]
        places = [[Path(beginning, Path(path).expanduser()) for beginning in beginnings] for path in data]
        unseen = [str(found[0]) for found in places if not any(access(place, R_OK) for place in found)]
        if data and len(unseen) == len(data):
            return f"does not see {', '.join(unseen)}: mount the data there under the same path"
        return ""

    return inspect
