"""`make bundle`: everything an installation takes, as one archive that needs no network where it is unpacked.

The wheels are for this machine's Python, system and processor, in the versions of constraints.txt.
"""

import argparse
import hashlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_INSTALL = """#!/bin/sh
# Installs AdaDim from the wheels beside this file into a virtual environment, without a network:
#   sh install.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${{1:?a folder for the virtual environment: sh install.sh FOLDER}}
python=${{PYTHON:-python{python}}}
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --no-index --find-links "$here/wheels" "adadim{extras}=={version}"
echo "installed; $folder/bin/adadim serve"
"""


def bundle(target: Path, extras: str) -> Path:
    """Write the archive into a folder. Returns where it is."""
    version = _version()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"adadim-{version}-{sys.platform}-{platform.machine()}-py{python}"
    target.mkdir(parents=True, exist_ok=True)
    wanted = f"[{extras}]" if extras else ""
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        folder = Path(scratch, name)
        wheels = folder / "wheels"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
                *("--constraint", str(ROOT / "constraints.txt"), "--wheel-dir", str(wheels), f"{ROOT}{wanted}"),
            ],
            check=True,
        )
        (folder / "install.sh").write_text(_INSTALL.format(python=python, version=version, extras=wanted))
        files = [*sorted(wheels.iterdir()), folder / "install.sh"]
        sums = [f"{_sha256(file)}  {file.relative_to(folder)}\n" for file in files]
        (folder / "SHA256SUMS").write_text("".join(sums))
        archive = target / f"{name}.tar"  # wheels are packed already
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, arcname=name)
    return archive


def _version() -> str:
    source = (ROOT / "adadim_core" / "version.py").read_text()
    return str(tomllib.loads(next(line for line in source.splitlines() if line.startswith("VERSION")))["VERSION"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "dist")
    parser.add_argument("--extras", default="all", help="extras of the package, with commas between them")
    options = parser.parse_args()
    made = bundle(options.target, options.extras)
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB")
