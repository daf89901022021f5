"""Specs as text and as documents, and what an invalid one answers."""

from collections.abc import Callable
from typing import Any

import pytest

from adadim_core.spec import Problem, SpecError, parse_spec, validate_spec

SWEEP = """\
name: sweep
search:
  algorithm: random
  trials: 5
  seed: 3
  space:
    objective.mutual_information.gamma: {log_uniform: [0.001, 1]}
    training.lr: {uniform: [0.1, 0.5]}
    training.seed: {integer: [0, 3]}
    objective.weighting: {choice: [{policy: adaptive}, {policy: fixed, alpha: 0.5}]}
"""


@pytest.fixture
def sweep_text() -> str:
    """A random sweep that uses every distribution."""
    return SWEEP


@pytest.fixture
def problems() -> Callable[..., list[Problem]]:
    """What is wrong with a text, or with an already parsed document."""

    def _problems(source: Any, **options: Any) -> list[Problem]:
        read = parse_spec if isinstance(source, str | bytes) else validate_spec
        with pytest.raises(SpecError) as caught:
            read(source, **options)
        return caught.value.problems

    return _problems
