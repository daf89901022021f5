"""How long an answer takes: 200 configurations of 5 seeds, in processor time.

.venv/bin/python benchmarks/answers.py
"""

import time

import numpy as np
from machine import describe

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.spec import validate_spec
from adadim_core.spec.metrics import METRICS

CONFIGURATIONS, SEEDS, RUNS = 200, 5, 9


def main() -> None:
    rng = np.random.default_rng(0)
    weightings = [{"policy": "fixed", "alpha": k / CONFIGURATIONS} for k in range(CONFIGURATIONS)]
    space = {"objective.weighting": {"choice": weightings}, "training.seed": {"choice": list(range(SEEDS))}}
    spec = validate_spec({"name": "benchmark", "search": {"algorithm": "grid", "space": space}})
    measured = [name for name, metric in METRICS.items() if metric.ranks and not metric.needs_labels]
    rows = [
        TrialRow(
            k * SEEDS + seed,
            {"objective.weighting": weightings[k], "training.seed": seed},
            "succeeded", 25, 25,
            {
                "knn_top1": round(359 * rng.normal(0.9, 0.01)) / 359,
                **{name: rng.normal(3 - k / 100, 0.05) for name in measured},
            },
        )
        for k in range(CONFIGURATIONS)
        for seed in range(SEEDS)
    ]  # fmt: skip
    took = []
    for _ in range(RUNS):
        began = time.process_time()
        found = answer(Question.of(spec), rows)
        text = found.model_dump_json()
        took.append(time.process_time() - began)
    print(describe("numpy", "pydantic"))
    print(found.sentence)
    print(
        f"{CONFIGURATIONS} configurations x {SEEDS} seeds, {found.method.comparisons} pairs, "
        f"{1 + len(measured)} metrics: median "
        f"{1e3 * float(np.median(took)):.0f} ms, largest {1e3 * max(took):.0f} ms, JSON of {len(text) // 1000} kB"
    )


if __name__ == "__main__":
    main()
