"""Halton's quasi-random sequence: points that fill a unit cube more evenly than random ones do.

The digits of every base are permuted at random, place by place (Owen 2017, "A randomized Halton algorithm"): the plain
sequence is strongly correlated in its higher dimensions. Without numpy, which the spec package does not import.
"""

import functools
import itertools
import math
import operator
import random


def halton(index: int, dimensions: int, *, seed: int) -> list[float]:
    """Point number `index` of the sequence of a seed: `dimensions` numbers in [0, 1)."""
    return [coordinate(index, dimension, seed=seed) for dimension in range(dimensions)]


def coordinate(index: int, dimension: int, *, seed: int) -> float:
    """One number of that point: of dimension 0 the first."""
    base, places, zeros = _places(dimension, seed)
    value, position = 0.0, 0
    while index and position < len(places):
        index, digit = divmod(index, base)
        value += places[position][digit]
        position += 1
    return min(functools.reduce(operator.add, zeros[position:], value), 1.0 - 2.0**-53)


@functools.lru_cache(maxsize=256)
def _places(dimension: int, seed: int) -> tuple[int, list[list[float]], list[float]]:
    """The base of a dimension; what each digit adds in each of its places; what 0 adds in each."""
    base = _prime(dimension)
    places: list[list[float]] = []
    place = 1.0
    for position in itertools.count():
        place /= base
        if place < 2.0**-53:  # further digits are beyond what a float holds
            break
        permutation = list(range(base))
        random.Random(f"{seed}/{base}/{position}").shuffle(permutation)
        places.append([digit * place for digit in permutation])
    return base, places, [digits[0] for digits in places]


@functools.cache
def _prime(number: int) -> int:
    """A prime by its number, 2 having number 0."""
    if number == 0:
        return 2
    return next(
        candidate for candidate in itertools.count(_prime(number - 1) + 1)
        if all(candidate % divisor for divisor in range(2, math.isqrt(candidate) + 1))
    )  # fmt: skip
