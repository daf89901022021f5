"""Part core: the tests of adadim_core that have a CUDA form, run on the card.

On a CPU the same tests run in their CPU form, a few of them in a smoke run.
"""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from gpu.settings import Record, Settings

_ROOT = Path(__file__).resolve().parents[2]
_PROCESSES = 8
_NOTHING_SELECTED = 5


def run(settings: Settings, record: Record) -> None:
    if settings.cuda:
        code, counts = _pytest(settings, ["tests/adadim_core", "-m", "device", "-k", "cuda"])
        if code != _NOTHING_SELECTED:
            _put(record, "in CUDA form", code, counts)
            return
        record.put("in CUDA form", "no test has one")
    chosen = ["tests/adadim_core/test_losses.py"] if settings.smoke else ["tests/adadim_core"]
    _put(record, "as they are", *_pytest(settings, chosen))


def _put(record: Record, name: str, code: int, counts: dict[str, Any]) -> None:
    record.put(name, counts)
    if code:
        raise SystemExit(f"pytest ended with {code}")


def _pytest(settings: Settings, chosen: list[str]) -> tuple[int, dict[str, Any]]:
    report = settings.work / "tests.xml"
    report.unlink(missing_ok=True)
    several = importlib.util.find_spec("xdist") is not None and (os.cpu_count() or 1) > _PROCESSES
    processes = ["-n", str(_PROCESSES)] if several else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        f"--junitxml={report}",
        "--timeout=120",
        "--tb=short",
        *processes,
        *chosen,
    ]
    code = subprocess.run(command, cwd=_ROOT, check=False).returncode
    if not report.exists():
        return code, {"error": f"pytest ended with {code} and wrote no report"}
    suite = next(ET.parse(report).iter("testsuite"))
    bad = [
        {"test": _short(f"{case.get('classname')}::{case.get('name')}"), "message": _short(found.get("message") or "")}
        for case in suite.iter("testcase")
        for found in (*case.findall("failure"), *case.findall("error"))
    ]
    numbers = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    return code, {**numbers, "seconds": float(suite.get("time", 0)), "failed": bad}


def _short(text: str) -> str:
    """The first line; which test it was is what matters, the rest is in the log."""
    return text.removeprefix("tests.adadim_core.").partition("\n")[0][:120]
