"""Search spaces: the distributions of a spec, and choices whose alternatives contain sub-spaces of their own.

Owns the distributions and how a tree of them becomes values, given the draws. The draws of a search are in search.py
and algorithms.py.
"""

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, JsonValue, Tag, TypeAdapter, ValidationError, model_validator

from adadim_core.spec.base import PositiveFloat, Section

MAX_ALTERNATIVES = 1_000


class Uniform(Section):
    """A real number between two bounds."""

    uniform: Annotated[list[float], Field(min_length=2, max_length=2, description="[low, high], both included.")]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.uniform, "uniform")
        return self

    def at(self, u: float) -> float:
        low, high = self.uniform
        # halves, because high - low of the largest numbers is infinite; clamped, because rounding may leave the bounds
        return _clamp(low * (1 - u) + high * u, low, high)


class LogUniform(Section):
    """A positive real number whose logarithm is uniform between two bounds."""

    log_uniform: Annotated[
        list[PositiveFloat], Field(min_length=2, max_length=2, description="[low, high], both positive and included.")
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.log_uniform, "log_uniform")
        return self

    def at(self, u: float) -> float:
        low, high = self.log_uniform
        return _clamp(math.exp(math.log(low) * (1 - u) + math.log(high) * u), low, high)


class Integer(Section):
    """A whole number between two bounds."""

    integer: Annotated[list[int], Field(min_length=2, max_length=2, description="[low, high], both included.")]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.integer, "integer")
        return self

    def at(self, u: float) -> int:
        low, high = self.integer
        return min(low + int(u * (high - low + 1)), high)


class Choice(Section):
    """One of the listed values. A value may be a whole section, as {policy: fixed, alpha: 0.5}.

    A field of such a section may again be a distribution, as {policy: fixed, alpha: {uniform: [0, 1]}}: it is drawn
    where this alternative is.
    """

    choice: Annotated[
        list[JsonValue],
        Field(min_length=1, max_length=MAX_ALTERNATIVES, description="The alternatives, each listed once."),
    ]

    @model_validator(mode="after")
    def _alternatives_are_values_or_spaces(self) -> Self:
        if len({_canonical(value) for value in self.choice}) < len(self.choice):
            raise ValueError("choice lists a value twice")
        for value in self.choice:
            leaves(value, "")  # raises where a distribution within is not valid
        return self

    def at(self, u: float) -> int:
        """The number of an alternative."""
        return min(int(u * len(self.choice)), len(self.choice) - 1)


DISTRIBUTIONS = ("uniform", "log_uniform", "integer", "choice")
"""The names of the distributions: a value that has one of them as its key spells one."""


def _kind(value: Any) -> str | None:
    """Which distribution a value denotes: the known name that it has as a key."""
    fields = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return next((name for name in DISTRIBUTIONS if name in fields), None)


Distribution = Annotated[
    Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Integer, Tag("integer")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="unknown_distribution",
        custom_error_message="should be one of {uniform: [low, high]}, {log_uniform: [low, high]}, "
        "{integer: [low, high]} or {choice: [value, ...]}",
    ),
]
_distribution: TypeAdapter[Uniform | LogUniform | Integer | Choice] = TypeAdapter(Distribution)

Draw = Callable[[str, Uniform | LogUniform | Integer | Choice], Any]
"""Takes the name of a distribution within its space and the distribution; gives the number drawn, of a choice the
number of the alternative."""


def resolve(node: Any, name: str, draw: Draw) -> Any:
    """A value of a space: every distribution in it replaced by its draw, outer ones first.

    Args:
        node: a distribution, or a value that may contain some.
        name: the name of the node; those within get names that begin with it.
        draw: draws for one distribution.
    """
    node = _as_distribution(node)
    match node:
        case Choice():
            number = draw(name, node)
            return resolve(node.choice[number], f"{name}[{number}]", draw)
        case Uniform() | LogUniform() | Integer():
            return draw(name, node)
        case dict():
            return {key: resolve(value, f"{name}.{key}", draw) for key, value in node.items()}
        case _:
            return node


def locate(node: Any, value: Any, name: str) -> dict[str, Any] | None:
    """The draws by which `resolve` gives this value, by name; None if it is not in the space."""
    node = _as_distribution(node)
    match node:
        case Choice():
            for number, alternative in enumerate(node.choice):
                within = locate(alternative, value, f"{name}[{number}]")
                if within is not None:
                    return {name: number, **within}
            return None
        case Uniform(uniform=[low, high]) | LogUniform(log_uniform=[low, high]):
            inside = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
            return {name: float(value)} if inside else None
        case Integer(integer=[low, high]):
            inside = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
            return {name: value} if inside else None
        case dict():
            if not isinstance(value, dict) or value.keys() != node.keys():
                return None
            draws: dict[str, Any] = {}
            for key, part in node.items():
                within = locate(part, value[key], f"{name}.{key}")
                if within is None:
                    return None
                draws |= within
            return draws
        case _:
            return {} if _canonical(node) == _canonical(value) else None


def leaves(node: Any, name: str) -> dict[str, Uniform | LogUniform | Integer | Choice]:
    """Every distribution of a space by its name, those of all alternatives included, outer ones first."""
    node = _as_distribution(node)
    match node:
        case Choice():
            found: dict[str, Any] = {name: node}
            for number, alternative in enumerate(node.choice):
                found |= leaves(alternative, f"{name}[{number}]")
            return found
        case Uniform() | LogUniform() | Integer():
            return {name: node}
        case dict():
            return {
                inner: leaf for key, value in node.items() for inner, leaf in leaves(value, f"{name}.{key}").items()
            }
        case _:
            return {}


def extremes(node: Any) -> Iterator[Any]:
    """Every combination of alternatives and of the bounds of ranges. Without ranges, that is the whole space."""
    node = _as_distribution(node)
    match node:
        case Choice():
            for alternative in node.choice:
                yield from extremes(alternative)
        case Uniform(uniform=bounds) | LogUniform(log_uniform=bounds) | Integer(integer=bounds):
            yield from bounds
        case dict():
            # bounded, for the combinations within a part are written into a list
            parts = [list(itertools.islice(extremes(value), MAX_ALTERNATIVES + 1)) for value in node.values()]
            for values in itertools.product(*parts):
                yield dict(zip(node, values, strict=True))
        case _:
            yield node


def assign(space: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    """The values of one trial from given draws: path to value.

    Args:
        space: path to distribution.
        draw: draws for one distribution.
    """
    return {path: resolve(distribution, path, draw) for path, distribution in sorted(space.items())}


def combinations(space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of alternatives and of the bounds of ranges, the last path of the alphabet fastest."""
    paths = sorted(space)
    parts = [list(itertools.islice(extremes(space[path]), MAX_ALTERNATIVES + 1)) for path in paths]
    for values in itertools.product(*parts):
        yield dict(zip(paths, values, strict=True))


def distribution_names(space: Mapping[str, Any]) -> list[str]:
    """The name of every distribution of a space, those within alternatives included."""
    return [name for path, distribution in sorted(space.items()) for name in leaves(distribution, path)]


def _as_distribution(node: Any) -> Any:
    """A distribution spelt as a dictionary, {uniform: [0, 1]}, as such; anything else as it is.

    No field of the spec has the name of a distribution, so that a section cannot be mistaken for one.
    """
    if not isinstance(node, dict) or len(node) != 1 or _kind(node) is None:
        return node
    return _parsed(json.dumps(node))


@functools.lru_cache(maxsize=2_000)  # a space is walked for every trial, and deep ones would be parsed at every level
def _parsed(text: str) -> Uniform | LogUniform | Integer | Choice:
    try:
        return _distribution.validate_python(json.loads(text))
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ValueError(f"{text[:80]}: {reason}") from None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _require_order(bounds: list[float] | list[int], name: str) -> None:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{name} must be [low, high] with low < high")
