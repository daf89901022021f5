"""Algorithms that choose a configuration's values from earlier results: Optuna's samplers by ask and tell.

Owns the translation of the spec's space to Optuna's. Keeps nothing on disk: after a restart it is told
again the values and results of finished ones. A configuration's draws depend on the seed, its number and those results.
"""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import optuna

from adadim_core.spec.search import SearchSpec
from adadim_core.spec.space import Choice, Integer, LogUniform, Uniform, combinations

optuna.logging.set_verbosity(optuna.logging.ERROR)

_MOST_RANDOM = 10
_TRIES = 20

_SAMPLERS: dict[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed, random_trials: optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=random_trials,
        constant_liar=True,  # what runs side by side must not all go for the same values
    ),
}
"""The sampler of each algorithm that learns: takes a seed and how many trials to begin with at random."""


class Tpe:
    """Chooses values for configurations that start, and learns from those that end. Used by one thread."""

    def __init__(self, search: SearchSpec) -> None:
        self._search = search
        self._study = optuna.create_study(direction="maximize" if search.mode == "max" else "minimize")
        self._running: dict[int, optuna.trial.Trial] = {}
        self._begun: list[dict[str, Any]] = []

    def start(self, number: int, params: dict[str, Any]) -> dict[str, Any]:
        """A configuration starts. Returns its values: those given, or chosen ones where none are given."""
        # A seed each: a run that is resumed must not draw again what its first ones drew.
        self._study.sampler = _SAMPLERS[self._search.algorithm](
            random.Random(f"{self._search.seed}/{number}").getrandbits(31),
            min(_MOST_RANDOM, (self._search.trials or 0) // 3),
        )
        values = self._given(number, params) if params else self._chosen(number)
        self._begun.append(values)
        return values

    def _given(self, number: int, params: dict[str, Any]) -> dict[str, Any]:
        self._study.enqueue_trial(self._search.draws(params))
        self._ask(number)
        return params

    def _chosen(self, number: int) -> dict[str, Any]:
        """Values that no configuration has yet, where the space has ends: equal ones show nothing new."""
        for _ in range(_TRIES):
            values = self._ask(number)
            if self._search.size is None or values not in self._begun:
                return values
            self.end(number, None)
        some = itertools.islice(combinations(self._search.space), len(self._begun) + 1)  # one is new, if there is any
        others = [params for params in some if params not in self._begun]
        return self._given(number, random.Random(f"{self._search.seed}/{number}/other").choice(others or [values]))

    def _ask(self, number: int) -> dict[str, Any]:
        trial = self._running[number] = self._study.ask()
        return self._search.assignment(lambda name, distribution: _suggest(trial, name, distribution))

    def end(self, number: int, value: float | None) -> None:
        """A configuration ended with this value of the ranking metric; None: it showed nothing."""
        trial = self._running.pop(number, None)
        if trial is None:
            return
        if value is None or not math.isfinite(value):
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, value)


def _suggest(trial: optuna.trial.Trial, name: str, distribution: Uniform | LogUniform | Integer | Choice) -> Any:
    match distribution:
        case Uniform(uniform=[low, high]):
            return trial.suggest_float(name, low, high)
        case LogUniform(log_uniform=[low, high]):
            return trial.suggest_float(name, low, high, log=True)
        case Integer(integer=[low, high]):
            return trial.suggest_int(name, low, high)
        case Choice(choice=alternatives):
            return trial.suggest_categorical(name, list(range(len(alternatives))))
    raise AssertionError(distribution)
