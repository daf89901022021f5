"""An interpreter in a folder of any name runs by a path that a shell takes whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from adadim_core.interpreter import is_plain, plain_programs


@pytest.mark.parametrize("name", ["my lab", "a&b", "it's", "$HOME", "(x)", "`id`", "a;b", "a*"])
def test_a_virtual_environment_of_any_name_runs_through_a_plain_path(tmp_path, monkeypatch, name):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / name], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin/python"))
    for _ in range(2):
        programs = plain_programs(tmp_path)
    assert is_plain(programs)
    command = f"exec {programs}/python -c 'import sys; print(sys.executable); print(sys.prefix)'"
    told = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert told.split() == [f"{programs}/python", str(programs.parent)]
    assert (programs.parent / "pyvenv.cfg").samefile(tmp_path / name / "pyvenv.cfg")


def test_a_plain_one_is_taken_as_it_is(tmp_path):
    assert is_plain(Path(sys.executable))
    assert plain_programs(tmp_path) == Path(sys.executable).parent
    assert not list(tmp_path.iterdir())
