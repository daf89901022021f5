"""Processors: those left to a process, not those of the machine."""

import os
import subprocess
import sys

import pytest

from adadim_core import cpus


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", 8), ("400000 100000", 4), ("150000 100000", 2), ("1000 100000", 1), ("x", 8)]
)
def test_a_containers_quota_counts(cgroup, text, expected):
    (cgroup / "cpu.max").write_text(text + "\n")
    assert cpus.available_cpus() == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, 8), (300_000, 3), (50_000, 1), (9_000_000, 8)])
def test_the_quota_of_older_containers_counts(cgroup, quota, expected):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text(str(quota))
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cpus.available_cpus() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="takes affinity")
def test_the_affinity_counts():
    code = """
import os
from adadim_core.cpus import available_cpus
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(available_cpus())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
