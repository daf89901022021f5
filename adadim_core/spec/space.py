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
"""Of one choice, and of all choices of a space together: no search has more configurations."""
MAX_DISTRIBUTIONS = 100
"""Of a space, those within alternatives included."""
MAX_NESTED_CHOICES = 6


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
        self.alternatives  # noqa: B018 - raises where a distribution within is not valid
        return self

    @functools.cached_property
    def alternatives(self) -> list[Any]:
        """The listed values, every distribution in them as such: built once, however often the space is walked."""
        return [with_distributions(value) for value in self.choice]

    @functools.cached_property
    def _plain(self) -> dict[str, int]:
        """The alternatives that are no spaces, as text, with their numbers."""
        numbered = enumerate(zip(self.choice, self.alternatives, strict=True))
        return {_canonical(value): number for number, (value, built) in numbered if not leaves(built, "")}

    def plain(self, value: Any) -> int | None:
        """The number of the alternative that is this value itself, and no space."""
        return self._plain.get(_canonical(value))

    @functools.cached_property
    def holds_spaces(self) -> bool:
        """Whether an alternative is a space."""
        return len(self._plain) < len(self.choice)

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
        node: a distribution, or a value that may contain some, as in `Choice.alternatives`.
        name: the name of the node; those within get names that begin with it.
        draw: draws for one distribution.
    """
    match node:
        case Choice():
            number = draw(name, node)
            alternative = node.alternatives[number]
            return resolve(alternative, f"{name}[{number}]", draw) if node.holds_spaces else alternative
        case Uniform() | LogUniform() | Integer():
            return draw(name, node)
        case dict():
            return {key: resolve(value, f"{name}.{key}", draw) for key, value in node.items()}
        case _:
            return node


def locate(node: Any, value: Any, name: str) -> dict[str, Any] | None:
    """The draws by which `resolve` gives this value, by name; None if it is not in the space."""
    match node:
        case Choice():
            plain = node.plain(value)
            if node.holds_spaces:
                for number, alternative in enumerate(node.alternatives[:plain]):
                    within = locate(alternative, value, f"{name}[{number}]")
                    if within is not None:
                        return {name: number, **within}
            return None if plain is None else {name: plain}
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
    match node:
        case Choice():
            found: dict[str, Any] = {name: node}
            if node.holds_spaces:
                for number, alternative in enumerate(node.alternatives):
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
    match node:
        case Choice() if not node.holds_spaces:
            yield from node.alternatives
        case Choice():
            for alternative in node.alternatives:
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


def extreme_count(node: Any) -> int:
    """How many values `extremes` gives, with no bound on the combinations within a part."""
    match node:
        case Choice():
            return sum(map(extreme_count, node.alternatives)) if node.holds_spaces else len(node.alternatives)
        case Uniform() | LogUniform() | Integer():
            return 2
        case dict():
            return math.prod(map(extreme_count, node.values()))
        case _:
            return 1


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


def check_size(space: Any) -> None:
    """Whether a space as it was written is small enough to be looked at. Raises ValueError.

    Each choice costs its validation, each distribution a draw for every trial.
    """
    alternatives = distributions = 0
    level, nested = list(space.values()) if isinstance(space, dict) else [], 0
    while level:
        # One round is one choice deeper: what is between two choices is walked within the round.
        deeper: list[Any] = []
        while level:
            node = level.pop()
            if isinstance(node, list):
                level += node
            elif isinstance(node, dict) and len(node) == 1 and _kind(node) is not None:
                distributions += 1
                listed = node.get("choice")
                if isinstance(listed, list):
                    alternatives += len(listed)
                    deeper += listed
            elif isinstance(node, dict):
                level += node.values()
        level, nested = deeper, nested + bool(deeper)
    for found, most, what in (
        (alternatives, MAX_ALTERNATIVES, "alternatives in its choices"),
        (distributions, MAX_DISTRIBUTIONS, "distributions, those within alternatives included"),
        (nested, MAX_NESTED_CHOICES, "choices within each other"),
    ):
        if found > most:
            raise ValueError(f"the space has {found} {what}; at most {most} are taken")


def with_distributions(node: Any) -> Any:
    """A value of a spec with every distribution in it, spelt as a dictionary ({uniform: [0, 1]}), as such.

    No field of the spec has the name of a distribution, so that a section cannot be mistaken for one.

    Raises:
        ValueError: one is not valid.
    """
    if not isinstance(node, dict):
        return node
    if len(node) != 1 or _kind(node) is None:
        return {key: with_distributions(value) for key, value in node.items()}
    try:
        return _distribution.validate_python(node)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ValueError(f"{json.dumps(node)[:80]}: {reason}") from None


_canonical = json.JSONEncoder(sort_keys=True).encode
"""A value as text: equal values have equal texts."""


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _require_order(bounds: list[float] | list[int], name: str) -> None:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{name} must be [low, high] with low < high")
