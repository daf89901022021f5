"""The images of the test: bases, pulled or made with debootstrap where no registry answers, and the two of the product.

Builds use this machine's configuration of pip: its files, folders of wheels and certificates are mounted, not copied.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from adadim_core.version import VERSION
from tests.deploy.engine import Engine

ROOT = Path(__file__).parents[2]
PYTHON = "docker.io/library/python:3.12-slim"
POSTGRES = "docker.io/library/postgres:18"
SERVICE, RAY = f"localhost/adadim-service:{VERSION}", f"localhost/adadim-ray:{VERSION}-cpu"
_MIRROR = "http://deb.debian.org/debian"
_PULL_S = 30


def make(engine: Engine, folder: Path, say: Callable[[str], None]) -> None:
    """Both bases and both images, those that are not there yet; the product's always, from the layers there are."""
    if not _pulled(engine, PYTHON):
        say("no registry answers: a base for Python is made with debootstrap")
        _debian(engine, folder / "python", PYTHON, "bookworm", ["python3", "python3-venv", "ca-certificates"])
    if not _pulled(engine, POSTGRES):
        say("and one for PostgreSQL")
        _postgres(engine, folder / "postgres")
    for image, file in ((SERVICE, "service.Dockerfile"), (RAY, "ray.Dockerfile")):
        began = time.monotonic()
        _build(engine, image, ROOT / "deploy" / "images" / file)
        over = (engine.size_of(image) - engine.size_of(PYTHON)) / 1e6
        say(f"built {image} in {time.monotonic() - began:.0f} s: {over:.0f} MB over its base")


def _pulled(engine: Engine, image: str) -> bool:
    if engine.has_image(image):
        return True
    try:
        engine.run("pull", "--quiet", image, timeout_s=_PULL_S)
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def _debian(engine: Engine, folder: Path, image: str, suite: str, packages: list[str]) -> None:
    _bootstrap(folder, suite, packages)
    _import(engine, folder, image)


def _postgres(engine: Engine, folder: Path) -> None:
    _bootstrap(folder, "forky", ["postgresql-18", "ca-certificates"])
    shutil.copy(Path(__file__).with_name("postgres-entrypoint.sh"), folder / "usr" / "local" / "bin" / "entrypoint")
    (folder / "usr/local/bin/pg_isready").symlink_to("/usr/lib/postgresql/18/bin/pg_isready")
    (folder / "usr/local/bin/psql").symlink_to("/usr/lib/postgresql/18/bin/psql")
    _import(engine, folder, POSTGRES, "--change", "ENTRYPOINT /usr/local/bin/entrypoint")


def _bootstrap(folder: Path, suite: str, packages: list[str]) -> None:
    scripts = Path("/usr/share/debootstrap/scripts")
    script = [] if (scripts / suite).exists() else [str(scripts / "sid")]
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(folder), _MIRROR]
    ran = subprocess.run([*command, *script], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ran.returncode:
        raise RuntimeError(f"debootstrap {suite}: {(ran.stdout + ran.stderr).strip()[-1000:]}")


def _import(engine: Engine, folder: Path, image: str, *changes: str) -> None:
    exclude = ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]
    with subprocess.Popen(["tar", "-C", str(folder), *exclude, "-c", "."], stdout=subprocess.PIPE) as archive:
        engine.run("import", *changes, "-", image, timeout_s=300, stdin=archive.stdout)
    shutil.rmtree(folder)


def _build(engine: Engine, image: str, file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "pip.conf"
        configuration.write_text(_pip_configuration())
        mounts = [f"{configuration}:/etc/pip.conf:ro", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        for name in sorted(set(re.findall(r"(?:file://|= ?| )(/[\w./-]+)", configuration.read_text()))):
            path = (
                Path(name).parent if Path(name).name == "simple" else Path(name)
            )  # the files of an index lie beside it
            if path.exists() and not name.startswith("/etc/ssl/"):
                mounts.append(f"{path}:{path}:ro")
        options = [option for mount in mounts for option in ("--volume", mount)]
        engine.run(
            *("build", "--format", "docker", "--network", "host", "--layers", *options),
            *("--build-arg", "TORCH_INDEX=", "--tag", image, "--file", str(file), str(ROOT)),
            timeout_s=1500,
        )


def _pip_configuration() -> str:
    """What pip is told on this machine, by files and by variables, as one file."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    found = dict(re.findall(r"^(?:global|:env:|install)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    return "[global]\n" + "".join(f"{name} = {' '.join(value.split())}\n" for name, value in found.items())
