"""Prints what extras of pyproject.toml ask for, so that an image has its dependencies in a layer before the source."""

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, dict], extras: list[str]) -> list[str]:
    """What the package needs with these extras; extras of its own that they name are followed."""
    found = list(project["dependencies"])
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(r"adadim\[(.+)\]", requirement)
            found += requirements(project, own[1].split(",")) if own else [requirement]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print(*requirements(tomllib.loads(Path("pyproject.toml").read_text())["project"], sys.argv[1:]), sep="\n")
