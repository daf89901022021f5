"""The threat model of docs/security.md: every row names tests that there are, or says that it is out of scope."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "docs" / "security.md"
WHO = ("viewer", "submitter", "worker", "storage writer", "holder of Ray's token", "local user", "web page")


def rows() -> list[list[str]]:
    """The cells of every row below the heading."""
    section = SECURITY.read_text().partition("\n## Threat model\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all tests."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def named(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", cell)


def test_every_row_names_tests_that_there_are_or_says_it_is_out_of_scope(tests: set[str]) -> None:
    found = rows()
    assert len(found) > 30
    for who, verdict, what, shown in found:
        assert who in WHO
        assert verdict in ("may", "may not"), what
        assert named(shown) or (verdict == "may" and shown.startswith("out of scope")), f"{who} {verdict} {what}"
        assert set(named(shown)) <= tests, f"no such test: {sorted(set(named(shown)) - tests)}"


def test_everybody_has_something_that_is_kept_from_them() -> None:
    assert {who for who, verdict, *_ in rows() if verdict == "may not"} == set(WHO)
    assert {who for who, verdict, *_ in rows() if verdict == "may"} == set(WHO)
