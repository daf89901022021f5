"""`python -m workers` as a process of the suite's, and its end. What is checked of it is the parts' own."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).resolve().parents[2]


def start_workers(spec: dict[str, Any], folder: Path) -> "tuple[subprocess.Popen[bytes], Path]":
    """Run one experiment into a folder, on a Ray cluster of its own. Gives the process and the file of its output."""
    written, output = folder.with_suffix(".json"), folder.with_suffix(".txt")
    written.write_text(json.dumps(spec))
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", str(written), "--storage", str(folder)],
            stdout=file, stderr=subprocess.STDOUT, cwd=_ROOT,
        )  # fmt: skip
    return process, output


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and everything it started, at once."""
    left = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        left = [*root.children(recursive=True), root]
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
