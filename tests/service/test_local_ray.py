"""The local Ray head: whose process it is, where its files go, and that what keeps it from starting is told."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from service_harness import until

from adadim_core.storage.own_folder import SUFFIX_LENGTH
from service.cli.doctor import _local_ray
from service.cluster import local, process
from service.cluster.jobs import ClusterUnavailable, RayJobs
from service.cluster.local import LocalRay, running_head, trouble_of_head
from service.settings import Settings, SettingsError


@pytest.fixture
def sleeper():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def test_a_process_is_the_same_whatever_the_clock_does(sleeper, monkeypatch) -> None:
    known = process.identity(sleeper.pid)
    monkeypatch.setattr(psutil, "boot_time", lambda: 1.0)  # from which psutil tells when a process was started
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: 1.0)
    assert known is not None
    assert process.identity(sleeper.pid) == known
    assert process.identity(os.getpid()) != known
    sleeper.kill()
    sleeper.wait()
    assert process.identity(sleeper.pid) is None


def test_a_process_that_nobody_has_collected_yet_has_ended(sleeper) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process.identity(sleeper.pid) is None


def test_names_of_processes_may_hold_anything(tmp_path, monkeypatch) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a) S (b) S " + " ".join(str(n) for n in range(4, 53)) + "\n")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    monkeypatch.setattr(process, "_PROC", tmp_path)
    assert process.identity(7) == "boot 22"


def test_without_proc_the_start_of_a_process_tells_it(sleeper, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(process, "_PROC", tmp_path)
    assert process.identity(sleeper.pid) == process.identity(sleeper.pid) is not None
    assert process.identity(2**30) is None


def test_a_head_of_another_boot_does_not_run(tmp_path, sleeper) -> None:
    record = {"pid": sleeper.pid, "identity": process.identity(sleeper.pid), "address": "http://127.0.0.1:1"}
    (tmp_path / "ray.json").write_text(json.dumps(record))
    found = running_head(tmp_path)
    assert found is not None
    assert found[0] == "http://127.0.0.1:1"
    (tmp_path / "ray.json").write_text(json.dumps(record | {"identity": "another"}))
    assert running_head(tmp_path) is None


@pytest.mark.parametrize(
    ("temporary", "used"),
    [("/tmp", "/tmp"), ("/tmp/slurm_jobdir/1355700/scratch/tmp", "/tmp"), ("/scratch", "/scratch")],
)
def test_a_long_tmpdir_is_not_used_for_sockets(monkeypatch, tmp_path, temporary, used) -> None:
    monkeypatch.setattr("tempfile.tempdir", temporary)
    head = LocalRay(tmp_path, RayJobs(), None)
    assert head._temporary == Path(used)
    if used != temporary:
        assert head._environment(Path("/usr/bin"))["TMPDIR"] == used
    # session_2026-11-26_14-05-15_123456_1234567/sockets/plasma_store and a zero byte
    assert len(str(head._temporary / head._private_name / "r")) + SUFFIX_LENGTH + 1 + 62 < 107


async def test_why_a_head_does_not_start_is_told_to_those_who_wait(monkeypatch, tmp_path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho 'Traceback (most recent call last):' >&2\n"
        "echo 'OSError: AF_UNIX path length cannot exceed 107 bytes' >&2\necho 'see above' >&2\nexit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(local, "plain_programs", lambda _: tmp_path)
    monkeypatch.setattr(local, "_CHECK_INTERVAL_S", 0.01)
    jobs = RayJobs()
    head = LocalRay(tmp_path, jobs, 1)
    head.start()
    try:
        trouble = await until(lambda: jobs.trouble)
        assert "the local Ray head does not start: `ray start` ended with exit code 1: OSError: AF_UNIX path" in trouble
        with pytest.raises(ClusterUnavailable, match="AF_UNIX path"):
            await jobs.version()
        await until(lambda: trouble_of_head(tmp_path))
        finding = _local_ray(trouble_of_head(tmp_path))
        assert not finding.ok
        assert "AF_UNIX path" in finding.text
        assert "docs/operations.md" in finding.remedy
    finally:
        await head.stop()


@pytest.mark.parametrize("there", ["link", "file", "nothing"])
async def test_nobody_owns_the_folder_of_a_head_or_keeps_it_from_starting(monkeypatch, tmp_path, there) -> None:
    """Whoever made it could read the environment of jobs there."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr(local, "_LONGEST_TEMPORARY", 4096)
    head = LocalRay(tmp_path, RayJobs(), 1)
    guessed = place / head._private_name
    if there == "link":
        (tmp_path / "elsewhere").mkdir()
        guessed.symlink_to(tmp_path / "elsewhere")
    elif there == "file":
        guessed.touch()
    used: list[Path] = []

    def programs(folder: Path) -> Path:
        used.append(folder)
        raise OSError("stop here")

    monkeypatch.setattr(local, "plain_programs", programs)
    with pytest.raises(OSError, match="stop here"):
        await head._launch()
    (folder,) = used
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder == head._private_dir()
    assert (folder == guessed) == (there == "nothing")
    assert not any((tmp_path / "elsewhere").glob("*"))


def test_jobs_of_the_head_see_no_secret_of_the_service(monkeypatch, tmp_path) -> None:
    given = ("DATABASE_URL", "PGPASSWORD", "ADADIM_TOKEN", "ADADIM_ADMIN_TOKEN_FILE", "RAY_AUTH_TOKEN")
    for name in given:
        monkeypatch.setenv(name, "secret-of-the-service")
    monkeypatch.setenv("HF_HOME", "/cache")
    seen = LocalRay(tmp_path, RayJobs(), 1)._environment(Path("/usr/bin"))
    assert "secret-of-the-service" not in seen.values()
    assert seen["HF_HOME"] == "/cache"


async def test_a_head_whose_files_were_cleaned_away_is_replaced(monkeypatch, tmp_path, sleeper) -> None:
    monkeypatch.setattr(local, "_CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(local, "_LONGEST_TEMPORARY", 4096)
    jobs = RayJobs()
    head = LocalRay(tmp_path, jobs, 1)
    files = tmp_path / head._private_name / "r"
    launched: list[int] = []

    async def launch() -> local._Head:
        files.mkdir(parents=True, exist_ok=True)
        launched.append(1)
        return local._Head(sleeper.pid, process.identity(sleeper.pid) or "", "http://127.0.0.1:1")

    monkeypatch.setattr(head, "_launch", launch)
    monkeypatch.setattr(head, "_end_processes", lambda: None)
    head.start()
    try:
        await until(lambda: launched)
        await until(lambda: jobs.trouble is None)
        await asyncio.to_thread(files.rmdir)
        await until(lambda: len(launched) > 1)
        assert jobs.end_within(timedelta(days=1)) == f"the files of the local Ray head in {files.parent} were removed"
        assert jobs.end_within(timedelta(0)) is None  # whoever was heard since is not of that head
    finally:
        await head.stop()


async def test_a_head_that_ended_while_no_service_ran_is_known_to_have(monkeypatch, tmp_path) -> None:
    (tmp_path / "ray.json").write_text(json.dumps({"pid": 2**30, "identity": "gone", "address": "http://127.0.0.1:1"}))
    jobs = RayJobs()
    assert await LocalRay(tmp_path, jobs, 1)._take_over() is None
    assert jobs.end_within(timedelta(days=1)) == "the local Ray head ended"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 54_321)
    monkeypatch.setattr("platformdirs.unix.os.path.expanduser", lambda path: path)
    with pytest.raises(SettingsError, match="ADADIM_STATE_DIR: set it, or HOME"):
        Settings.from_environ({})
    assert Settings.from_environ({"ADADIM_STATE_DIR": "/srv/adadim"}).state_dir == Path("/srv/adadim")


def test_the_doctor_finds_ray_beside_its_python_whatever_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an environment whose programs are called by their full names."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert _local_ray(None).ok is False
    (tmp_path / "ray").touch()
    assert _local_ray(None).ok is True
