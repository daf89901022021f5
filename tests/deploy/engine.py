"""podman with a configuration and a storage of its own: what it makes is gone when the folder is.

Owns how podman and podman-compose are called. Images, cuts and kills are others'.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CONTAINERS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
_PROGRAMS = ("podman", "runc", "iptables", "nsenter", "debootstrap", "tar")
_HELPERS = {"netavark": "/usr/lib/podman", "aardvark-dns": "/usr/lib/podman"}


def lacks() -> list[str]:
    """What this machine lacks for containers, each with what to do."""
    found = [] if os.geteuid() == 0 else ["root: run it as root"]
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    missing += [name for name, folder in _HELPERS.items() if not Path(folder, name).exists()]
    if missing:
        found.append(
            f"{', '.join(missing)}: apt-get install --no-install-recommends podman runc netavark aardvark-dns iptables "
            "uidmap catatonit debootstrap"
        )
    if not Path(sys.executable).with_name("podman-compose").exists():
        found.append("podman-compose: pip install podman-compose")
    return found


class Engine:
    """podman, with everything it keeps under one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        (folder / "containers.conf").write_text(_CONTAINERS.format(folder=folder))
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *arguments: str, timeout_s: float = 120.0, check: bool = True, stdin: Any = None) -> str:
        """What a podman command prints. Raises RuntimeError with its last words if it fails."""
        ran = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=stdin or subprocess.DEVNULL,
        )
        if check and ran.returncode:
            raise RuntimeError(f"podman {' '.join(arguments[:3])}: {(ran.stderr or ran.stdout).strip()[-2000:]}")
        return ran.stdout

    def logs(self, container: str, lines: int) -> str:
        """The end of what a container said, on either stream."""
        command = ["podman", "logs", "--tail", str(lines), container]
        ran = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return ran.stdout

    def compose(self, files: Sequence[Path], variables: Mapping[str, str], *arguments: str, timeout_s: float) -> str:
        """What a podman-compose command prints. Raises RuntimeError with its last words if it fails."""
        command = [str(Path(sys.executable).with_name("podman-compose"))]
        for file in files:
            command += ["-f", str(file)]
        ran = subprocess.run(
            [*command, *arguments],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if ran.returncode:
            raise RuntimeError(f"compose {' '.join(arguments)}: {(ran.stderr or ran.stdout).strip()[-3000:]}")
        return ran.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("inspect", name))[0]
        return found

    def has_image(self, name: str) -> bool:
        return bool(self.run("images", "--quiet", name).strip())

    def size_of(self, image: str) -> int:
        return int(json.loads(self.run("image", "inspect", image))[0]["Size"])

    def remove_containers(self) -> None:
        """Every container, volume and network."""
        self.run("rm", "--all", "--force", "--volumes", check=False, timeout_s=300)
        self.run("volume", "rm", "--all", "--force", check=False)
        self.run("network", "prune", "--force", check=False)

    def remove_everything(self) -> None:
        """Containers, volumes and networks, and the folder with all that is left, images among it."""
        self.remove_containers()
        # What podman leaves mounted would be lost in the removal, or keep it from being one.
        for line in Path("/proc/mounts").read_text().splitlines():
            point = line.split()[1]
            if point.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
