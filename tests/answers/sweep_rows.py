"""Made-up results of sweeps over the weighting, four or more of them, with the same seeds each."""

from collections.abc import Mapping, Sequence
from typing import Any

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer
from adadim_core.spec import validate_spec

EPOCHS = 25
IMAGES = 359


def weighting(k: int) -> dict[str, Any]:
    """Of configuration k: fixed 0.0, fixed 0.1, ..."""
    return {"policy": "fixed", "alpha": k / 10}


def question(**search: Any) -> Question:
    """Of a sweep over weightings and seeds."""
    space = {"objective.weighting": {"choice": [weighting(k) for k in range(4)]}, "training.seed": {"choice": [0, 1]}}
    return Question.of(validate_spec({"name": "x", "search": {"algorithm": "grid", "space": space} | search}))


def row(number: int, configuration: int, seed: int, value: float | None, **fields: Any) -> TrialRow:
    """A trial; without a value it is one that measured nothing."""
    metrics = {} if value is None else {"knn_top1": value}
    given: dict[str, Any] = {"state": "succeeded", "epoch": EPOCHS, "epochs": EPOCHS, "metrics": metrics, **fields}
    return TrialRow(number, {"objective.weighting": weighting(configuration), "training.seed": seed}, **given)


def rows(values: Sequence[Sequence[float]], beside: Mapping[str, Sequence[Sequence[float]]] = {}) -> list[TrialRow]:
    """A finished sweep: values[configuration][seed] of the k-NN accuracy, and of other metrics likewise."""
    found = []
    for k, of_one in enumerate(values):
        for seed, value in enumerate(of_one):
            metrics = {"knn_top1": value} | {name: column[k][seed] for name, column in beside.items()}
            found.append(row(len(found), k, seed, value, metrics=metrics))
    return found


def answer_to(values: Sequence[Sequence[float]], beside: Mapping[str, Sequence[Sequence[float]]] = {}) -> Answer:
    """The answer that a finished sweep gives."""
    return answer(question(), rows(values, beside))


def shares(values: Any) -> Any:
    """Accuracies rounded to whole images."""
    return [[round(float(v) * IMAGES) / IMAGES for v in of_one] for of_one in values]
