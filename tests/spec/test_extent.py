"""What a spec may cost to read and validate: bounded by its size, whatever its shape."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from adadim_core.spec import Problem, parse_spec, plan_summary, plan_trials, unintended, validate_spec
from adadim_core.spec.base import MAX_VALUES
from adadim_core.spec.notation import MAX_NAME
from adadim_core.spec.search import MAX_TRIALS
from adadim_core.spec.space import MAX_ALTERNATIVES, MAX_DISTRIBUTIONS, MAX_NESTED_CHOICES, with_distributions

Problems = Callable[..., list[Problem]]


def search(space: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "a", "search": {"trials": 10, "space": space} | fields}


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions are called: what the work costs, the same on every machine."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def nested(levels: int) -> Any:
    """A choice of two choices of two choices ..., with 2^levels values in all."""
    numbers = iter(range(1 << levels))

    def node(level: int) -> Any:
        return {"choice": [node(level - 1), node(level - 1)]} if level else next(numbers) / 100

    return node(levels)


def test_nested_choices_cost_what_they_hold() -> None:
    """Twice the values, twice the work; it used to be four times, as every level was read again for each above it."""
    costs = {levels: calls_of(lambda levels=levels: with_distributions(nested(levels))) for levels in (3, 8)}  # type: ignore[misc]
    assert costs[8] < 2 * 2**5 * costs[3]
    assert calls_of(lambda: validate_spec(search({"training.lr": chain(MAX_NESTED_CHOICES)}, trials=4))) < 4_000


def chain(levels: int) -> Any:
    node: Any = 1.0
    for level in range(levels):
        node = {"choice": [node, level / 100 + 0.001]}
    return node


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {f"training.x{i}": {"choice": [*range(101)]} for i in range(10)},
            f"1010 alternatives in its choices; at most {MAX_ALTERNATIVES} are taken",
        ),
        (
            {"training.lr": {"choice": [{"x": {"uniform": [0, i]}} for i in range(1, 101)]}},
            f"101 distributions, those within alternatives included; at most {MAX_DISTRIBUTIONS} are taken",
        ),
        (
            {"training.lr": chain(MAX_NESTED_CHOICES + 1)},
            f"{MAX_NESTED_CHOICES + 1} choices within each other; at most {MAX_NESTED_CHOICES} are taken",
        ),
    ],
)
def test_a_space_is_bounded_before_it_is_validated(problems: Problems, space: dict[str, Any], message: str) -> None:
    (problem,) = problems(search(space))
    assert problem == Problem("/search/space", f"the space has {message}")


@pytest.mark.parametrize("syntax", ["yaml", "json"])
def test_fields_and_values_are_bounded(problems: Problems, syntax: str) -> None:
    text = json.dumps({"name": "a", "x": list(range(MAX_VALUES))})
    (problem,) = problems(text, syntax=syntax)
    assert problem.message.endswith(f"a spec has at most {MAX_VALUES} fields and values")


def test_names_are_bounded(problems: Problems) -> None:
    (problem,) = problems({"name": "a", "training": {"x" * (MAX_NAME + 1): 1}})
    assert problem.message.endswith(f"... has {MAX_NAME + 1} characters; the name of a field has at most {MAX_NAME}")


def test_draws_are_bounded(problems: Problems) -> None:
    ranges = [{"policy": "adaptive", "smoothing": {"uniform": [0, 0.5 + i / 100]}} for i in range(19)]
    (problem,) = problems(search({"objective.weighting": {"choice": ranges}}, trials=MAX_TRIALS))
    assert problem.message == "1000 trials of a space of 20 distributions; give at most 300 trials"
    assert validate_spec(search({"objective.weighting": {"choice": ranges}}, trials=300))


def test_what_is_drawn_once_in_hundreds_of_times_is_not_waited_for() -> None:
    """300 values and a range: once the values are taken, each new draw of the range takes 300."""
    values = [{"policy": "fixed", "alpha": number / 300} for number in range(300)]
    values.append({"policy": "fixed", "alpha": {"uniform": [0.0, 1.0]}})  # type: ignore[dict-item]
    spec = validate_spec(search({"objective.weighting": {"choice": values}}, trials=1000))
    assert 300 < len(plan_trials(spec)) < 400
    assert "(trials asks for 1000; the space has no more that differ)" in plan_summary(spec)


def test_the_largest_searches_cost_a_bounded_number_of_calls() -> None:
    """2 µs a call: tens of milliseconds for the largest there is, planned, checked and judged."""
    sections = [{"policy": "fixed", "alpha": number / 1000} for number in range(1000)]
    largest = [
        search({"objective.weighting": {"choice": sections}}, algorithm="grid", trials=None),
        search({"training.epochs": {"choice": [*range(1, 1001)]}}, trials=1000),
        search(
            {"training.epochs": {"choice": [*range(1, 1001)]}},
            trials=1000,
            points=[{"training.epochs": number} for number in range(1, 1001)],
        ),
    ]

    def read(text: str) -> None:
        spec = parse_spec(text, syntax="json")
        assert not unintended(spec)
        assert len(plan_trials(spec)) > 950

    for document in largest:
        text = json.dumps(document)
        assert calls_of(lambda text=text: read(text)) < 120_000, text[:120]  # type: ignore[misc]
