"""The client stays light: what importing it takes, and what is said where an optional package is missing."""

import subprocess
import sys

import pytest

import adadim
from adadim.tables import require

HEAVY = ("torch", "ray", "fastapi", "starlette", "sqlalchemy", "asyncpg", "pandas", "pyarrow", "sklearn", "service")


def test_importing_it_takes_nothing_heavy() -> None:
    code = f"import sys, adadim; print(sorted(set(sys.modules) & set({HEAVY})), adadim.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[0] == f"[] {adadim.__version__}"


def test_a_missing_package_is_said_with_its_remedy() -> None:
    require("json")
    with pytest.raises(adadim.ClientError, match=r"this takes no_such: pip install 'adadim\[client\]'"):
        require("json", "no_such")


def test_every_public_name_has_a_docstring() -> None:
    for name in adadim.__all__:
        found = getattr(adadim, name)
        if not isinstance(found, type):
            continue
        for member, value in vars(found).items():
            if callable(value) and not member.startswith("_") and value.__qualname__.startswith(f"{name}."):
                assert value.__doc__, f"{name}.{member}"
