"""`make bundle`: its archive installs where there is no network."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from adadim_core.version import VERSION

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="takes root: unshare --net")
def test_the_archive_installs_in_a_network_namespace_without_a_route(tmp_path: Path) -> None:
    """The package alone, without extras: what comes with them comes in the same way."""
    subprocess.run(
        [sys.executable, ROOT / "deploy" / "bundle.py", tmp_path / "dist", "--extras", ""], check=True, timeout=200
    )
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / archive.name.removesuffix(".tar")
    alone = ["unshare", "--net"]
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    routes = subprocess.check_output([*alone, "cat", "/proc/net/route"], text=True)
    assert routes.splitlines()[1:] == []  # but for a heading
    command = [*alone, "sh", str(folder / "install.sh"), str(tmp_path / "venv")]
    python = clean | {"PYTHON": sys.executable}
    subprocess.run(command, check=True, env=python, timeout=200)
    said = subprocess.check_output([*alone, tmp_path / "venv" / "bin" / "adadim", "--version"], text=True, env=clean)
    assert VERSION in said

    wheel = next((folder / "wheels").glob("adadim-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    damaged = subprocess.run(command, env=python, capture_output=True, text=True, check=False, timeout=60)
    assert damaged.returncode != 0
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() not in (folder / "SHA256SUMS").read_text()
    assert wheel.name in damaged.stdout + damaged.stderr
