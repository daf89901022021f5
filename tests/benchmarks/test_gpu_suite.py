"""The GPU suite: all its parts run on a CPU with tiny settings, and one that fails or hangs stops no other."""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gpu_report import tables
from gpu_suite import PARTS, Part, Suite

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_suite.py"

CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


class OtherParts(Suite):
    """The suite with programs of the test in place of its parts."""

    least_seconds = 0.1
    programs: dict[str, list[str]]

    def command(self, name: str, limit: float) -> list[str]:
        if name == "throughput":  # the last: its figures go where a part's do
            self.part_file(name).write_text('{"images_per_s": 1}')
        return [sys.executable, "-c", *self.programs[name]]


def run(tmp_path: Path, programs: dict[str, list[str]], budget: float) -> dict[str, Any]:
    out = tmp_path / "gpu.json"
    arguments = argparse.Namespace(out=out, data=None, smoke=True, budget=budget)
    suite = OtherParts(arguments, "cpu", list(programs))
    suite.programs = programs
    with pytest.raises(SystemExit):
        suite.run()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def errors(found: Any, place: str) -> Iterator[str]:
    """Where a part says why a measurement failed, with what it says."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "error":
                yield f"{place}: {value}"
            yield from errors(value, f"{place}/{name}")


def numbers(found: Any) -> list[Any]:
    """A rate, or those by the number of members: text instead of one says why there is none."""
    return list(found.values()) if isinstance(found, dict) else [found]


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_stops_no_other(tmp_path: Path) -> None:
    child = tmp_path / "child"
    programs = {
        "core": ["print('about to fail'); raise ValueError('broken')"],
        "product": [CHILD, str(child)],
        "throughput": ["print('fine')"],
    }
    parts = run(tmp_path, programs, budget=20)["parts"]
    assert [part["status"] for part in parts.values()] == ["failed", "timed out", "ok"]
    assert parts["core"]["log"][-1] == "ValueError: broken"
    assert "about to fail" in parts["core"]["log"]
    assert parts["throughput"]["results"] == {"images_per_s": 1}
    assert not lives(int(child.read_text())), "what the hanging part had started lives on"


@pytest.mark.slow
def test_parts_for_which_no_time_is_left_say_so(tmp_path: Path) -> None:
    hangs = ["import time; time.sleep(600)"]
    OtherParts.least_seconds, before = 1.0, OtherParts.least_seconds
    try:
        parts = run(tmp_path, {"packing": hangs, "core": hangs}, budget=2)["parts"]
    finally:
        OtherParts.least_seconds = before
    assert parts["packing"]["status"] == "timed out"
    assert parts["core"] == {"status": "skipped", "reason": "0 s were left"}


def test_the_last_part_chosen_gets_all_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "core", Part("gpu.core_tests", 0.001))  # its share: a quarter of a second
    programs = {"core": ["import time; time.sleep(1); raise SystemExit(3)"]}
    assert run(tmp_path, programs, budget=120.0)["parts"]["core"]["status"] == "failed", "it did not time out"


def test_limits_leave_each_part_but_the_last_its_whole_share() -> None:
    *before, last = PARTS.values()
    one_after_the_other = [part.share for part in before if not part.beside]
    at_once = max(part.share for part in before if part.beside)  # as long as the one it runs beside, or longer
    assert at_once >= PARTS["core"].share
    assert sum(one_after_the_other) - PARTS["core"].share + at_once <= 0.95  # what is left reads the images
    assert last.share == 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(2500)
def test_every_part_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(SUITE), "--smoke", "--budget", "2400", "--out", str(out)]
    suite = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert suite.returncode == 0, suite.stdout + suite.stderr + out.read_text()
    results = json.loads(out.read_text())
    failed = {name: part for name, part in results["parts"].items() if part["status"] != "ok"}
    assert not failed
    assert list(errors(results["parts"], "")) == []
    rates = results["parts"]["packing"]["results"]
    assert all(isinstance(rate, float) for found in rates.values() for rate in numbers(found)), rates
    markdown = tables([results])
    for heading in ("Throughput", "Many trials on one card", "The study"):
        assert heading in markdown
