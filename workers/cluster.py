"""The Ray cluster a run finds: how to reach it and what room it has.

Owns ray.init and the translation of the spec's resources into Ray's. Starts no trial.
"""

import logging
import math
import os
from dataclasses import dataclass

import ray

from adadim_core.spec.sections import ResourcesSpec
from workers.errors import RunError


@dataclass(frozen=True)
class Room:
    """What a trial takes of the cluster, and how many trials it holds at once."""

    cpus: int
    """CPUs of one process of a trial."""
    gpus: float
    """GPUs of one process of a trial."""
    slots: int
    """Trials that fit at once, at least one."""


def connect(resources: ResourcesSpec) -> None:
    """Join the cluster RAY_ADDRESS names (a Ray job has it set), or start a local one that ends with this process.

    Raises:
        RunError: the named cluster does not answer.
    """
    address = os.environ.get("RAY_ADDRESS")
    try:
        # "local" and not Ray's default, which would join any cluster someone started on this machine
        ray.init(
            address=address or "local",
            # it takes time to start, and only Ray Train, for trials of several processes, asks it anything
            include_dashboard=None if address else resources.workers > 1,
            logging_level=logging.WARNING,
            log_to_driver=True,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RunError(
            f"cannot join the Ray cluster at RAY_ADDRESS={address}: {error}\n"
            "To run on it from outside, use: ray job submit --working-dir . -- python -m workers SPEC"
            if address
            else f"cannot start a local Ray cluster: {error}"
        ) from error


def room_for(resources: ResourcesSpec) -> Room:
    """The cluster's room for trials of these resources.

    Raises:
        RunError: a cluster that only this run uses, and so will not grow, cannot hold one trial.
    """
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cluster_cpus, cluster_gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if cluster_gpus else 0.0
    fit = math.floor(cluster_cpus / cpus)
    if gpus:
        fit = min(fit, math.floor(cluster_gpus / gpus + 1e-9))
    slots = fit // resources.workers
    if slots == 0:
        message = (
            f"one trial takes {resources.workers} x ({cpus} CPUs, {gpus:g} GPUs); "
            f"the cluster has {cluster_cpus:g} CPUs and {cluster_gpus:g} GPUs"
        )
        if not os.environ.get("RAY_ADDRESS"):
            raise RunError(f"{message}. Lower `resources` in the spec, or set RAY_ADDRESS to a larger cluster.")
        print(f"{message}: waiting for nodes to join", flush=True)
    return Room(cpus=cpus, gpus=float(gpus), slots=max(slots, 1))
