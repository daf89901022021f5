"""The package's surface: every name resolves, and the spec alone loads neither torch nor numpy."""

import subprocess
import sys

import pytest

import adadim_core


def test_every_public_name_resolves():
    for name in adadim_core.__all__:
        assert getattr(adadim_core, name) is not None
        assert name in dir(adadim_core)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = adadim_core.nonsense


def test_the_spec_loads_no_torch():
    code = "import sys, adadim_core.spec; sys.exit(bool({'torch', 'numpy', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
