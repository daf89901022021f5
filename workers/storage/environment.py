"""What a run ran on, for whoever writes its results up: versions of what computed them, and the driver's machine."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from adadim_core.version import VERSION

_PACKAGES = ("torch", "ray", "numpy")


def environment() -> dict[str, str]:
    """Package or part to its version or name. What trials on other nodes ran on is in their logs."""
    found = {"adadim": VERSION} | {name: installed for name in _PACKAGES if (installed := _version(name))}
    found["Python"] = platform.python_version()
    found["machine"] = f"{_processor()} ({platform.system()})"
    if cards := _cards():
        found["GPU"] = cards
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.machine()


def _cards() -> str:
    """Kinds of GPU in the cluster, where this process has joined one."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    mark = "accelerator_type:"
    kinds = sorted(name.removeprefix(mark) for name in ray.cluster_resources() if name.startswith(mark))
    return ", ".join(kinds)
