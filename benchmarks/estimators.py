"""What the matrix-based estimators say where the truth is known: bias and spread over N, D, order and centring.

    .venv/bin/python benchmarks/estimators.py [--repeats 20] [--write]

Gaussian R and Z = rho R + sqrt(1 - rho^2) E, whose mutual information is -D/2 log(1 - rho^2); classes that are told
with errors; low-rank Z for the effective rank. Beside them the k-nearest-neighbour estimator of Kraskov, Stoegbauer and
Grassberger (2004, arXiv cond-mat/0305641), which estimates the mutual information itself. `--write` brings tables and
figure of docs/estimators.md up to date. Takes about two minutes on one core.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from pages import into_page, table
from scipy.spatial.distance import cdist
from scipy.special import digamma
from torch import Tensor

from adadim_core import effective_rank, mutual_information

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "estimators.json"
PAGE = ROOT / "docs" / "estimators.md"
FIGURE = ROOT / "docs" / "estimators.png"

SAMPLES = (64, 256, 1024)
DIMENSIONS = (2, 8, 32, 128, 512)
CORRELATIONS = (0.0, 0.5, 0.9, 1.0)
_PAIRS = 100_000


def gaussian(n: int, d: int, rho: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, D) R and Z, standard normal, each dimension of Z correlated by rho with the same one of R."""
    r, noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return r, rho * r + math.sqrt(1 - rho**2) * noise


def gaussian_information(d: int, rho: float) -> float:
    """Shannon's I(R;Z) of `gaussian`, in nats; infinite where Z is a copy of R."""
    return math.inf if rho == 1 else d / 2 * -math.log1p(-(rho**2)) + 0.0


def pair_moments(d: int, rho: float, generator: torch.Generator) -> float:
    """E[cos_r^2 cos_z^2] of two independent samples, by simulation; cos_r and cos_z are the cosines of their R and Z.

    1 / D^2 for rho = 0, 3 / (D (D + 2)) for rho = 1.
    """
    if rho in (0, 1):
        return 1 / d**2 if rho == 0 else 3 / (d * (d + 2))
    total = 0.0
    parts = max(1, _PAIRS * d // 2**22)
    for _ in range(parts):
        n = _PAIRS // parts
        first, second = gaussian(n, d, rho, generator), gaussian(n, d, rho, generator)
        cos_r, cos_z = (torch.cosine_similarity(a, b) for a, b in zip(first, second, strict=True))
        total += float((cos_r * cos_z).square().mean())
    return total / parts


def expected_information(n: float, d: int, moment: float) -> float:
    """What the estimate of order 2, not centred, comes to with N samples, spread aside; N may be infinite.

    The diagonal of a kernel is one and the rest has mean 1/D: tr (K/N)^2 = 1/N + (1 - 1/N) / D, and for the product of
    the kernels with the moment in place of 1/D.
    """
    share = 1 / n

    def entropy(off_diagonal: float) -> float:
        return -math.log(share + (1 - share) * off_diagonal)

    return 2 * entropy(1 / d) - entropy(moment)


def nearest_neighbour_information(r: np.ndarray, z: np.ndarray, k: int = 3) -> float:
    """Estimate of Shannon's I(R;Z) in nats by k nearest neighbours in the maximum norm (Kraskov et al. 2004, I^(1))."""
    distance_r, distance_z = (cdist(x, x, "chebyshev") for x in (r, z))
    joint = np.maximum(distance_r, distance_z)
    np.fill_diagonal(joint, np.inf)
    radius = np.partition(joint, k - 1, axis=1)[:, k - 1 : k]
    within = [(distance < radius).sum(axis=1) for distance in (distance_r, distance_z)]  # a sample counts itself: n + 1
    return float(digamma(k) + digamma(len(r)) - np.mean(digamma(within[0]) + digamma(within[1])))


def told_classes(n: int, classes: int, error: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, classes) one-hot R and Z: a class, and what is told of it, which is another one in a share of the cases."""
    r = torch.randint(classes, (n,), generator=generator)
    other = (r + torch.randint(1, classes, (n,), generator=generator)) % classes
    z = torch.where(torch.rand(n, generator=generator) < error, other, r)
    return torch.eye(classes)[r].double(), torch.eye(classes)[z].double()


def class_information(classes: int, error: float, order: float) -> float:
    """H_a(R) + H_a(Z) - H_a(R, Z) in nats of the distribution behind `told_classes`; order 1 is Shannon's."""
    joint = np.full((classes, classes), error / (classes * (classes - 1)))
    np.fill_diagonal(joint, (1 - error) / classes)

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum() if order == 1 else np.log((p**order).sum()) / (1 - order))

    return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)


@dataclass(frozen=True)
class Row:
    """An estimate over repeats."""

    table: str
    case: dict[str, Any]
    truth: float
    limit: float
    """What it comes to without end of samples, where that is known, else NaN."""
    mean: float
    sd: float


def _row(table: str, case: dict[str, Any], truth: float, limit: float, estimates: list[float]) -> Row:
    return Row(table, case, truth, limit, float(np.mean(estimates)), float(np.std(estimates, ddof=1)))


def measure(repeats: int) -> Iterator[Row]:
    """Every row of the tables."""
    yield from _gaussian_rows(repeats)
    yield from _shifted_rows(repeats)
    yield from _class_rows(repeats)
    yield from _rank_rows(repeats)


def _repeated(repeats: int, draw: Callable[[torch.Generator], float]) -> list[float]:
    return [draw(torch.Generator().manual_seed(seed)) for seed in range(repeats)]


def _gaussian_rows(repeats: int) -> Iterator[Row]:
    for d in DIMENSIONS:
        for rho in CORRELATIONS:
            truth = gaussian_information(d, rho)
            limit = expected_information(math.inf, d, pair_moments(d, rho, torch.Generator().manual_seed(0)))
            for n in SAMPLES:
                for order in (1.0, 2.0, 5.0):

                    def estimate(generator: torch.Generator, order: float = order) -> float:
                        r, z = gaussian(n, d, rho, generator)  # noqa: B023 - called at once
                        return mutual_information(r, z, order=order).item()

                    case = {"d": d, "rho": rho, "n": n, "estimator": f"order {order:g}"}
                    known = limit if order == 2 else (0.0 if rho == 0 else math.nan)
                    yield _row("gaussian", case, truth, known, _repeated(repeats, estimate))
                if rho < 1:

                    def neighbours(generator: torch.Generator) -> float:
                        r, z = gaussian(n, d, rho, generator)  # noqa: B023 - called at once
                        return nearest_neighbour_information(r.numpy(), z.numpy())

                    few = min(repeats, 5 if n * d > 10_000 else repeats)
                    case = {"d": d, "rho": rho, "n": n, "estimator": "k-NN"}
                    yield _row("gaussian", case, truth, truth, _repeated(few, neighbours))


def _shifted_rows(repeats: int) -> Iterator[Row]:
    """R with a common mean, as after ReLU and pooling: centred and not."""
    d, n = 32, 256
    for rho in (0.0, 0.9):
        for shift in (0.0, 1.0, 3.0):
            for center in (False, True):

                def estimate(generator: torch.Generator) -> float:
                    r, z = gaussian(n, d, rho, generator)  # noqa: B023 - called at once
                    return mutual_information(r + shift, z, center=center).item()  # noqa: B023 - called at once

                case = {"rho": rho, "shift": shift, "centred": center}
                yield _row("shifted", case, gaussian_information(d, rho), math.nan, _repeated(repeats, estimate))


def _class_rows(repeats: int) -> Iterator[Row]:
    for error in (0.0, 0.2, 0.9):
        for order in (1.0, 2.0):
            for n in SAMPLES:

                def estimate(generator: torch.Generator) -> float:
                    r, z = told_classes(n, 10, error, generator)  # noqa: B023 - called at once
                    return mutual_information(r, z, order=order).item()  # noqa: B023 - called at once

                limit = class_information(10, error, order)
                case = {"error": error, "n": n, "order": order}
                yield _row("classes", case, class_information(10, error, 1), limit, _repeated(repeats, estimate))


def _rank_rows(repeats: int) -> Iterator[Row]:
    d = 2048
    for rank in (10, 100, 500, 2048):
        for n in (128, 256, 1024, 4096):
            few = min(repeats, 3 if n == 4096 else 10)

            def estimate(generator: torch.Generator) -> float:
                z = torch.randn(n, rank, generator=generator) @ torch.randn(rank, d, generator=generator)  # noqa: B023
                return effective_rank(z if rank < d else torch.randn(n, d, generator=generator)).item()  # noqa: B023

            yield _row("rank", {"rank": rank, "n": n}, rank, math.nan, _repeated(few, estimate))


def tables(rows: list[Row]) -> dict[str, str]:
    """The tables of docs/estimators.md, by name."""
    return {
        "gaussian": _gaussian_table(rows),
        "shifted": table(
            ["rho", "mean of R", "not centred", "centred"],
            [
                [rho, shift, *(_cell(rows, "shifted", rho=rho, shift=shift, centred=c) for c in (False, True))]
                for rho in (0.0, 0.9)
                for shift in (0.0, 1.0, 3.0)
            ],
        ),
        "classes": table(
            ["order", "share of errors", "true value", *(f"N = {n}" for n in SAMPLES)],
            [
                [
                    f"{order:g}",
                    error,
                    f"{class_information(10, error, order):.2f}",
                    *(_cell(rows, "classes", error=error, order=order, n=n) for n in SAMPLES),
                ]
                for order in (1.0, 2.0)
                for error in (0.0, 0.2, 0.9)
            ],
        ),
        "rank": table(
            ["true rank", *(f"N = {n}" for n in (128, 256, 1024, 4096))],
            [
                [rank, *(_cell(rows, "rank", digits=0, rank=rank, n=n) for n in (128, 256, 1024, 4096))]
                for rank in (10, 100, 500, 2048)
            ],
        ),
    }


def _gaussian_table(rows: list[Row]) -> str:
    lines = []
    for d in DIMENSIONS:
        for rho in CORRELATIONS:
            limit = next(r.limit for r in rows if r.case == {"d": d, "rho": rho, "n": 64, "estimator": "order 2"})
            found = [
                _cell(rows, "gaussian", sd=n == 256, d=d, rho=rho, n=n, estimator=f"order {order}")
                for order in (2, 1)
                for n in SAMPLES
            ]
            neighbours = _cell(rows, "gaussian", d=d, rho=rho, n=256, estimator="k-NN") if rho < 1 else ""
            truth = gaussian_information(d, rho)
            shown = "inf" if math.isinf(truth) else f"{truth:.2f}"
            lines.append([d, rho, shown, f"{limit:.2f}", *found, neighbours])
    heading = [*(f"order {order}, N = {n}" for order in (2, 1) for n in SAMPLES), "k-NN, N = 256"]
    return table(["D", "rho", "I(R;Z)", "order 2, N = inf", *heading], lines)


def _cell(rows: list[Row], table: str, *, digits: int = 2, sd: bool = False, **case: Any) -> str:
    row = next(row for row in rows if row.table == table and row.case == case)
    return f"{row.mean:.{digits}f}" + (f" ± {row.sd:.{digits}f}" if sd else "")


def draw(rows: list[Row]) -> Any:
    """The estimate over N of independent R and Z and of a copy, by D: the truth is 0 and infinite."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    for panel, (rho, title) in enumerate([(0.0, "independent: I(R;Z) = 0"), (1.0, "Z = R: I(R;Z) = inf")], 1):
        axes = figure.add_subplot(1, 2, panel)
        reach = np.geomspace(16, 65_536, 60)
        for d, color in zip(DIMENSIONS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"), strict=True):
            moment = 1 / d**2 if rho == 0 else 3 / (d * (d + 2))
            axes.plot(reach, [expected_information(n, d, moment) for n in reach], color=color, lw=1, label=f"D = {d}")
            for n in SAMPLES:
                case = {"d": d, "rho": rho, "n": n, "estimator": "order 2"}
                row = next(row for row in rows if row.case == case)
                axes.errorbar(n, row.mean, yerr=row.sd, fmt="o", color=color, markersize=3, capsize=2)
        axes.set(xscale="log", xlabel="N", ylabel="I of order 2 (nats)", title=title, ylim=(0, 6.5))
        axes.spines[["top", "right"]].set_visible(False)
        if panel == 1:
            axes.legend(frameon=False, fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="bring docs/estimators.md and its figure up to date")
    arguments = parser.parse_args()
    print(describe("torch", "numpy", "scipy"), flush=True)
    rows: list[Row] = []
    for row in measure(arguments.repeats):
        rows.append(row)
        print(
            f"{row.table} {row.case}: {row.mean:.3f} ± {row.sd:.3f} (truth {row.truth:.3f}, limit {row.limit:.3f})",
            flush=True,
        )
    if arguments.write:
        RESULTS.write_text(json.dumps([asdict(row) for row in rows]).replace("}, {", "},\n{") + "\n")
        write_page(rows)


def write_page(rows: list[Row]) -> None:
    """Bring docs/estimators.md and its figure up to date."""
    PAGE.write_text(into_page(PAGE.read_text(), tables(rows)))
    draw(rows).savefig(FIGURE, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
