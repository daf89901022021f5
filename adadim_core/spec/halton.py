"""Halton's quasi-random sequence: points that fill a unit cube more evenly than random ones do.

The digits of every base are permuted at random, place by place (Owen 2017, "A randomized Halton algorithm"): the plain
sequence is strongly correlated in its higher dimensions. Without numpy, which the spec package does not import.
"""

import functools
import itertools
import random


def halton(index: int, dimensions: int, *, seed: int) -> list[float]:
    """Point number `index` of the sequence of a seed: `dimensions` numbers in [0, 1)."""
    return [_permuted_inverse(index, base, f"{seed}/{base}") for base in _primes(dimensions)]


def _permuted_inverse(index: int, base: int, key: str) -> float:
    value, place = 0.0, 1.0
    for position in itertools.count():
        place /= base
        if place < 2.0**-53:  # further digits are beyond what a float holds
            return min(value, 1.0 - 2.0**-53)
        index, digit = divmod(index, base)
        value += _permutation(base, f"{key}/{position}")[digit] * place
    raise AssertionError("unreachable")


@functools.lru_cache(maxsize=4_096)
def _permutation(size: int, key: str) -> list[int]:
    order = list(range(size))
    random.Random(key).shuffle(order)
    return order


@functools.lru_cache(maxsize=64)
def _primes(count: int) -> list[int]:
    found: list[int] = []
    for candidate in itertools.count(2):
        if len(found) == count:
            break
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found
