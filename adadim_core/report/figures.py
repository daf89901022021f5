"""The figures: intervals of every configuration, curves with bands, the H(R)-I(R;Z) plane, accuracy against balance.

Owns the drawing. Each function returns a matplotlib figure, or None where the results do not hold what it shows.
"""

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adadim_core.answers.curves import Course, band
from adadim_core.answers.document import Answer, ConfigurationAnswer, Statistics
from adadim_core.report.material import Curve, Material
from adadim_core.spec.metrics import METRICS, metric_title

MOST_DRAWN = 12
"""Configurations that curves and planes show: the first of the ranking. Every one is in the interval plot and table."""

# Okabe and Ito's colours, told apart by people who see no red or green, and in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A00")
_MARKS = "osD^vP"
_WIDTH = 5.5  # inches: one column of text
_LABEL = 44  # characters

STYLE: Any = {
    "font.size": 8.0,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.0,
    "pdf.fonttype": 42,  # TrueType, embedded: what publishers ask for, and text that can be found
    "svg.fonttype": "none",
    "svg.hashsalt": "adadim",  # the same figure gives the same file
}


def intervals(material: Material) -> Figure | None:
    """Mean and 95 % interval of the ranking metric of each configuration, with its replicates as dots."""
    answer = material.answer
    shown = [c for c in answer.configurations if answer.metric in c.statistics]
    if not shown:
        return None
    labels = [_in_two_lines(c.label) for c in shown]
    row_height = 0.36 if any("\n" in label for label in labels) else 0.26
    figure = Figure(figsize=(_WIDTH, 0.7 + row_height * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, configuration in enumerate(shown):
        color = _standing_color(configuration)
        statistics = configuration.statistics[answer.metric]
        axes.plot(configuration.values, [row] * len(configuration.values), "|", color=color, alpha=0.5, markersize=5)
        axes.errorbar(statistics.mean, row, xerr=_error(statistics), fmt="o", color=color, markersize=4, capsize=2.5)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_ylim(len(shown) - 0.5, -0.5)  # the best on top
    axes.set_xlabel(f"{axis_title(answer.metric)}, mean and 95 % interval")
    axes.grid(axis="x", linewidth=0.3, alpha=0.6)
    return figure


def curves(material: Material) -> Figure | None:
    """Mean over seeds of each metric against epochs, with the 95 % interval of the mean as a band."""
    metrics = material.drawn
    configurations = _first(material.answer)
    if not metrics or not configurations:
        return None
    rows = -(-len(metrics) // 2)
    figure = Figure(figsize=(_WIDTH * 1.3, 2.1 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, 2 if len(metrics) > 1 else 1, squeeze=False)
    for metric, axes in zip(metrics, grid.flat, strict=False):
        for k, configuration in enumerate(configurations):
            found = material.curves[metric]
            curve = mean_curve([found[trial] for trial in configuration.trials if trial in found])
            if curve is None:
                continue
            epochs, mean, low, high = curve
            axes.plot(epochs, mean, color=color_of(k), linewidth=1.0, label=_short(configuration.label))
            axes.fill_between(epochs, low, high, color=color_of(k), alpha=0.15, linewidth=0)
        axes.set_ylabel(axis_title(metric))
        axes.set_xlabel("epoch")
    for axes in list(grid.flat)[len(metrics) :]:
        axes.set_axis_off()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, max(1, len(labels))))
    return figure


def plane(material: Material) -> Figure | None:
    """H(R) against I(R;Z) at the end of training: means of configurations with 95 % intervals both ways."""
    return _scatter(material, "h_r", "i_rz")


def balance(material: Material) -> Figure | None:
    """The metric that ranks against the balance score, by configuration."""
    answer = material.answer
    return None if answer.metric == "balance" else _scatter(material, "balance", answer.metric)


def mean_curve(found: list[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Epochs, mean and the ends of its 95 % interval over replicates, as far as all of them went; None: nowhere.

    Replicates measure at the same epochs. Where a service thinned long curves each in its own way, the others are
    interpolated to the epochs of the shortest. Of a single replicate the interval is the curve itself.
    """
    if not found or not all(curve.epochs for curve in found):
        return None
    epochs = np.unique(min((curve.epochs for curve in found), key=lambda own: (own[-1], len(own))))
    told = band([Course(np.asarray(curve.epochs, float), np.asarray(curve.values, float)) for curve in found], epochs)
    there = np.zeros(0, bool) if told is None else (told.n == len(found)) & np.isfinite(told.mean)
    if told is None or not there.any():
        return None
    low, high = (np.where(np.isfinite(end), end, told.mean)[there] for end in (told.low, told.high))
    return epochs[told.first :][: len(there)][there], told.mean[there], low, high


def axis_title(metric: str) -> str:
    """A metric's title with its unit."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{metric_title(metric)} ({unit})" if unit else metric_title(metric)


def color_of(k: int) -> str:
    """Colour of the k-th configuration of the ranking, the same in all figures."""
    return _COLORS[k % len(_COLORS)]


FIGURES: dict[str, tuple[Callable[[Material], Figure | None], str]] = {
    "intervals": (
        intervals,
        "Mean, 95 % interval and seeds. Green leads, blue is not distinguishable, grey is worse, orange has no test.",
    ),
    "curves": (curves, "Course over training: mean over seeds, with the 95 % interval of the mean as a band."),
    "plane": (plane, "H(R) against I(R;Z) at the end of training, with 95 % intervals over seeds."),
    "balance": (balance, "The metric that ranks against the balance score, with 95 % intervals over seeds."),
}
"""File name to what draws it and its caption."""


def _scatter(material: Material, x: str, y: str) -> Figure | None:
    shown = [
        (k, c) for k, c in enumerate(_first(material.answer)) if x in c.statistics and y in c.statistics
    ]  # colours stay those of the ranking
    if not shown:
        return None
    figure = Figure(figsize=(_WIDTH * 0.8, _WIDTH * 0.62), layout="constrained")
    axes: Axes = figure.add_subplot()
    for k, configuration in shown:
        across, up = configuration.statistics[x], configuration.statistics[y]
        axes.errorbar(
            across.mean, up.mean, xerr=_error(across), yerr=_error(up), fmt=_MARKS[k // len(_COLORS) % len(_MARKS)],
            color=color_of(k), markersize=4.5, linewidth=0.8, label=_short(configuration.label),
        )  # fmt: skip
    axes.set_xlabel(axis_title(x))
    axes.set_ylabel(axis_title(y))
    figure.legend(loc="outside right upper")
    return figure


def _first(answer: Answer) -> list[ConfigurationAnswer]:
    return [c for c in answer.configurations if c.statistics][:MOST_DRAWN]


def _error(statistics: Statistics) -> list[list[float]] | None:
    if statistics.low is None or statistics.high is None:
        return None
    return [[statistics.mean - statistics.low], [statistics.high - statistics.mean]]


def _standing_color(configuration: ConfigurationAnswer) -> str:
    match configuration.standing:
        case "best" | "leads":
            return "#009E73"
        case "not distinguishable":
            return "#0072B2"
        case "worse":
            return "#7F7F7F"
        case "not compared" | "not ranked":
            return "#D55E00"


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"


def _in_two_lines(label: str) -> str:
    """What tells sections apart is often at their end."""
    first, *others = textwrap.wrap(label, _LABEL) or [""]
    return f"{first}\n{_short(' '.join(others))}" if others else first
