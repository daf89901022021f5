"""The Ray cluster a run finds: how to reach it and what room it has.

Owns ray.init and the translation of the spec's resources into Ray's. Starts no trial.
"""

import atexit
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError

from adadim_core.cpus import available_cpus
from adadim_core.interpreter import is_plain, plain_programs
from adadim_core.spec.sections import ResourcesSpec
from workers.errors import RunError

_LOOK_SECONDS = 2.0
_LONGEST_TEMPORARY = 40
"""Of the 107 characters of a socket's path Ray takes 66."""


@dataclass(frozen=True)
class Room:
    """What a trial takes of the cluster, and how many trials it holds at once."""

    cpus: int
    """CPUs of one process of a trial."""
    gpus: float
    """GPUs of one process of a trial."""
    slots: int
    """Trials that fit at once; 0 while the cluster is too small for one."""
    shortage: str = ""
    """Why none fits, for people."""


def connect(resources: ResourcesSpec) -> None:
    """Join the cluster RAY_ADDRESS names (a Ray job has it set), or start a local one that ends with this process.

    Raises:
        RunError: the named cluster does not answer, or none can start here.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        _prepare_local()
    try:
        # "local" and not Ray's default, which would join any cluster someone started on this machine
        ray.init(
            address=address or "local",
            # what is left to this process, and not what the machine has
            num_cpus=None if address else available_cpus(),
            # it takes time to start, and only Ray Train, for trials of several processes, asks it anything
            include_dashboard=None if address else resources.workers > 1,
            logging_level=logging.WARNING,
            log_to_driver=True,
        )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__).strip()
        if not address:
            raise RunError(f"cannot start a local Ray cluster: {why}") from error
        raise RunError(
            f"cannot join the Ray cluster at RAY_ADDRESS={address} ({why}); is it there, and are RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN set as on its nodes? From outside: ray job submit --working-dir . -- python -m workers"
        ) from error


def _prepare_local() -> None:
    """Have a local cluster start on any machine: its sockets need a short path, and its interpreter a plain one."""
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMPORARY:
        os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"  # noqa: S108 - the default of all that make files there
    if not is_plain(Path(sys.executable)):
        folder = tempfile.TemporaryDirectory(prefix="adadim-python-")
        atexit.register(folder.cleanup)
        sys.executable = str(plain_programs(Path(folder.name)) / Path(sys.executable).name)


def room_for(resources: ResourcesSpec) -> Room:
    """The cluster's room for trials of these resources, as it is now."""
    nodes: list[dict[str, float]] = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    processes = sum(_fit(node, cpus, float(gpus)) for node in nodes)
    slots = processes // resources.workers
    shortage = ""
    if slots == 0:
        have = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        shortage = (
            f"one trial takes {resources.workers} x ({cpus} CPUs, {gpus:g} GPUs); the nodes of the cluster have "
            f"{have}{more}"
        )
    return Room(cpus=cpus, gpus=float(gpus), slots=slots, shortage=shortage)


def _fit(node: dict[str, float], cpus: int, gpus: float) -> int:
    """Processes a node holds: none is spread over two nodes, and a fraction of a GPU never over two GPUs."""
    fit = math.floor(node.get("CPU", 0.0) / cpus)
    if 0 < gpus < 1:
        return min(fit, math.floor(node.get("GPU", 0.0)) * math.floor(1 / gpus + 1e-9))
    return min(fit, math.floor(node.get("GPU", 0.0) / gpus)) if gpus else fit


def _scales_itself() -> bool:
    """Whether the cluster has an autoscaler that may add nodes. KubeRay's does not say so; its manifest does."""
    if os.environ.get("ADADIM_CLUSTER_SCALES"):
        return True
    # Ray has no public function for this. Every run on a cluster calls it: a Ray without it fails their tests.
    config = ray._private.state.state.get_cluster_config()
    return config is not None and bool(config.node_group_configs)


class RoomWatch:
    """Follows the room of a cluster whose nodes come and go. `slots` is cheap to call."""

    def __init__(self, resources: ResourcesSpec, say: Callable[[str], None]) -> None:
        """
        Args:
            resources: What one trial takes.
            say: Called with what the run waits for, or with an empty text when it waits no more.

        Raises:
            RunError: a cluster that only this run uses, and so will not grow, cannot hold one trial.
        """
        self._say = say
        self.room = room_for(resources)
        # As resolved now: what the trials will ask for, whichever nodes join.
        self._resources = resources.model_copy(update={"gpus_per_worker": self.room.gpus})
        # One trial more than fits waits where the cluster scales itself, so that it sees what is wanted. A trial of
        # several processes would count as running while it waits.
        self._beyond = int(_scales_itself() and resources.workers == 1)
        self._looked = time.monotonic()
        if self.room.slots == 0:
            if not os.environ.get("RAY_ADDRESS"):
                raise RunError(
                    f"{self.room.shortage}. Lower `resources` in the spec, or set RAY_ADDRESS to a larger cluster."
                )
            self._wait_for_nodes()

    def slots(self) -> int:
        """Trials that may be started, one at least: those for which there is no room wait."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()
        wanted = max(self.room.slots + self._beyond, 1)
        return min(wanted, self._resources.max_concurrent_trials or wanted)

    def _look(self) -> None:
        before, self.room = self.room, room_for(self._resources)
        self._looked = time.monotonic()
        if self.room.slots == before.slots:
            return
        if self.room.slots == 0:
            self._wait_for_nodes()
            return
        if before.slots == 0:
            self._say("")
        print(f"the cluster has room for {self.room.slots} trials at once now, before for {before.slots}", flush=True)

    def _wait_for_nodes(self) -> None:
        print(f"{self.room.shortage}: waiting for nodes to join", flush=True)
        self._say(f"waiting for nodes: {self.room.shortage}")
