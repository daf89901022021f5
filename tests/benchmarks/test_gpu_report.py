"""The report of the GPU suite: the documentation shows what it prints, and figures that are missing are left out."""

import json
from pathlib import Path
from typing import Any

from gpu_report import tables

ROOT = Path(__file__).resolve().parents[2]
RUNS = [json.loads((ROOT / f"benchmarks/results/gpu-run{number}.json").read_text()) for number in (1, 2, 3)]


def run(**parts: Any) -> dict[str, Any]:
    return {
        "card": "a card",
        "machine": "a machine",
        "images": "images",
        "parts": {name: {"status": "ok", "results": results} for name, results in parts.items()},
    }


def speed(median: float, **more: Any) -> dict[str, Any]:
    return {"median": median, "min": median - 1, "max": median + 1, **more}


def test_the_documentation_shows_the_committed_runs() -> None:
    documented = (ROOT / "docs" / "benchmarks.md").read_text()
    missing = [part for part in tables(RUNS).strip().split("\n\n") if part not in documented]
    assert not missing, "print them with gpu_report.py benchmarks/results/gpu-run*.json"


def test_several_runs_share_a_table_and_one_has_no_number() -> None:
    only = run(lightly={"trainer, VICReg": speed(200.0, replayed=True)})
    both = run(
        lightly={
            "trainer, VICReg": speed(100.0, replayed=False),
            "lightly, VICReg, end to end": speed(50.0),
        }
    )
    rows = [line for line in tables([only, both]).splitlines() if "VICReg" in line]
    assert rows == [
        "| 1 | VICReg | 200 (199 to 201) | yes |  |  |  |  |",
        "| 2 | VICReg | 100 (99 to 101) | no | 50 (49 to 51) | 2.00x |  |  |",
    ]
    assert "| VICReg | 200 (199 to 201) | yes |  |  |  |  |" in tables([only])


def test_the_floor_says_what_share_of_the_peak_a_step_can_reach() -> None:
    step = {"images_per_s": speed(10.0), "step_ms": 20.0, "tflop_per_step": 1.0, "share_of_matrix_peak": 0.1,
            "memory_gib": 1.0, "replayed": False}  # fmt: skip
    pieces = {"floor, operator by operator": 8.0, "floor, what can be joined left out": 4.0, "optimiser": 1.0}
    throughput = {"matrix_peak_tflops": 500.0, "net batch 256": step, "net pieces": pieces}
    assert "| net batch 256 | 2.0 ms | 8.0 ms | 25% | 4.0 ms | 50% | 20.0 ms, without a graph |" in tables(
        [run(throughput=throughput)]
    )


def test_a_pack_is_compared_with_its_members_in_turn() -> None:
    packing = {"net: graph alone": 100.0, "net: eager alone": 50.0, "net: pack": {"2": 150.0, "16": 230.0},
               "net: processes, each with a graph": {"2": 120.0, "16": "no time left"}}  # fmt: skip
    row = "| net | 100 | 50 | 150 (1.50x) | 230 (2.30x) | 2: 120 |  |"
    assert row in tables([run(packing=packing)])


def test_failures_and_errors_are_named_briefly() -> None:
    failed = [{"test": f"tests.adadim_core.test_replay::test_it[{n}]", "message": "long"} for n in (1, 2)]
    core = {"in CUDA form": {"tests": 9, "failures": 2, "errors": 0, "skipped": 0, "seconds": 3.0, "failed": failed}}
    throughput = {"net batch 8": {"error": "OutOfMemoryError: CUDA out of memory. Tried to allocate much."}}
    markdown = tables([run(core=core, throughput=throughput)])
    assert "| in CUDA form | 9 | 2: test_replay::test_it (2) | 0 | 3 s |" in markdown
    assert "| net batch 8 |  | OutOfMemoryError: CUDA out of memory |  |  |  |" in markdown
