"""Figures and tables of the study from its stored results; `study.py report` writes them.

Statements, intervals and tests are those of the product's analysis: nothing is computed here but which of them are
shown. Owns the generated places of docs/study/README.md; the figures are drawn in study_figures.py.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from pages import into_page, table
from study import STUDY
from study_figures import QUANTITIES, by_number, comparable, drawings

from adadim_core.answers.document import Answer, ConfigurationAnswer
from adadim_core.answers.estimates import compare, mean_interval
from adadim_core.answers.numbers import number, signed
from adadim_core.report.figures import STYLE
from adadim_core.report.material import Material
from adadim_core.spec.metrics import METRICS

_ACCURACIES = ("knn_top1", "linear_top1", "few_labels_1", "few_labels_10")
_SHOWN = (*QUANTITIES, "erank_r")
_EARLY = 1.0
"""Epoch at which the first phase is looked at."""


def write(found: Mapping[str, Material]) -> None:
    """Bring docs/study/README.md and its figures up to date."""
    page = STUDY / "README.md"
    page.write_text(into_page(page.read_text(), texts(found)))
    (STUDY / "figures").mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, (figure, _) in drawings(found).items():
            figure.savefig(STUDY / "figures" / f"{name}.png", dpi=150, metadata={"Software": None})


def texts(found: Mapping[str, Material]) -> dict[str, str]:
    """What stands in each generated place of the page: statements, tables and the figures that there are."""
    made = {name: _statement(material.answer) for name, material in found.items()}
    if "weighting" in found:
        made["phases"] = _phases(found["weighting"])
        made["adaptive"] = _adaptive(found["weighting"].answer)
    made |= {"plane": _plane(found), "label-free": _label_free(found)}
    for name, (_, caption) in drawings(found).items():
        place = "adaptive" if name == "alpha" else name
        made[place] = "\n\n".join(filter(None, [made.get(place), f"![{name}](figures/{name}.png)", f"*{caption}*"]))
    return made


def _statement(answer: Answer) -> str:
    """What the product says of a sweep, and the table behind it."""
    accuracies = [name for name in _ACCURACIES if any(name in c.statistics for c in answer.configurations)]
    shown = [*accuracies, *_SHOWN]
    difference = f"{METRICS[answer.metric].title} minus leader"
    heading = ["configuration", "seeds", *(METRICS[name].title for name in shown), difference, "standing"]
    lines = [
        [c.label, len(c.seeds), *(_interval(c, name) for name in shown), _to_leader(answer, c), c.standing]
        for c in answer.configurations
    ]
    return f"> {answer.sentence}\n\n{table(heading, lines)}"


def _phases(material: Material) -> str:
    """H(R) and I(R;Z) of each weighting at the start, after the first epoch and at the end, and what they gained in
    between: means over seeds, gains paired by seed."""
    lines = []
    for configuration in by_number(material):
        for metric in QUANTITIES:
            curves = [material.curves.get(metric, {}).get(trial) for trial in configuration.trials]
            known = [curve for curve in curves if curve is not None and curve.epochs]
            if not known:
                continue
            # (seeds, 3): before training, after the first epoch, at the end
            seen = np.array([np.interp([0.0, _EARLY, curve.epochs[-1]], curve.epochs, curve.values) for curve in known])
            early, late = seen[:, 1] - seen[:, 0], seen[:, 2] - seen[:, 1]
            points, gains = [_mean(column) for column in seen.T], [_mean(gain, signs=True) for gain in (early, late)]
            lines.append([configuration.label, METRICS[metric].title, *points, *gains, _mean(late - early, signs=True)])
    heading = ["weighting", "quantity", "untrained", "after epoch 1", "at the end", "first epoch", "later"]
    return table([*heading, "later minus first epoch"], lines)


def _plane(found: Mapping[str, Material]) -> str:
    """Where the best configuration of each sweep lies in the orders of H(R) and of I(R;Z)."""
    lines: list[list[Any]] = []
    for name, sweep in comparable(found).items():
        ranked = [c for c in sweep if c.rank]
        if not ranked:
            continue
        best = min(ranked, key=lambda c: c.rank or 0)
        places = []
        for metric in QUANTITIES:
            if metric in found[name].answer.not_comparable:
                places += ["", "", ""]
                continue
            order = sorted(ranked, key=lambda c, m=metric: -c.statistics[m].mean)  # type: ignore[misc]
            places += [f"{order.index(best) + 1} of {len(order)}", order[0].label, order[-1].label]
        lines.append([name, best.label, *places])
    heading = ["sweep", "highest mean accuracy"]
    for title in (METRICS[metric].title for metric in QUANTITIES):
        heading += [f"place by {title}", f"highest {title}", f"lowest {title}"]
    return table(heading, lines) if lines else ""


def _adaptive(answer: Answer) -> str:
    """Adaptive weightings minus the others, paired by seed; intervals of the same family as the statement."""
    ranked = [c for c in answer.configurations if c.seeds]
    seeds = sorted({seed for c in ranked for seed in c.seeds})
    values = np.full((len(ranked), len(seeds)), np.nan)
    for row, c in enumerate(ranked):
        values[row, [seeds.index(seed) for seed in c.seeds]] = c.values
    pairs = compare(values, step=answer.resolution.step if answer.resolution else 0.0)

    def cell(one: int, other: int) -> str:
        mean, pair = pairs.paired(one, other), pairs.of_two(one, other)
        if not pairs.has_test(one, other):
            return signed(mean, 3)
        half = pairs.half_width(pair, pairs.level)
        mark = " *" if pairs.different[pair] else ""
        return f"{signed(mean, 3)} ({signed(mean - half, 3)} to {signed(mean + half, 3)}){mark}"

    rows = [k for k, c in enumerate(ranked) if c.label.startswith("adaptive")]
    others = sorted({*range(len(ranked))} - {*rows}, key=lambda k: ranked[k].number)
    lines = [[ranked[row].label, *(cell(row, other) for other in others)] for row in rows]
    return table([f"{answer.title} of", *(f"minus {ranked[k].label}" for k in others)], lines)


def _label_free(found: Mapping[str, Material]) -> str:
    lines: list[list[Any]] = []
    for name, material in found.items():
        for agreement in material.answer.without_labels:
            tau = "" if agreement.tau is None else signed(agreement.tau, 2)
            if agreement.low is not None and agreement.high is not None:
                tau += f" ({signed(agreement.low, 2)} to {signed(agreement.high, 2)})"
            picked = next(c.label for c in material.answer.configurations if c.number == agreement.picks)
            title = METRICS[agreement.measure].title
            lines.append([name, title, agreement.configurations, tau, picked, number(agreement.costs, 3)])
    heading = ["sweep", "measure", "configurations", "Kendall's tau", "it would pick", "which costs"]
    return table(heading, lines) if lines else ""


def _mean(values: Any, *, signs: bool = False) -> str:
    """Mean over seeds with its 95 % interval."""
    mean = mean_interval(values)
    shown = signed(mean.mean, 2) if signs else number(mean.mean, 2)
    return shown if mean.low is None else f"{shown} ± {number(mean.mean - mean.low, 2)}"


def _interval(configuration: ConfigurationAnswer, metric: str) -> str:
    statistics = configuration.statistics.get(metric)
    if statistics is None:
        return ""
    digits = 3 if metric in _ACCURACIES else 2
    mean = number(statistics.mean, digits)
    return mean if statistics.low is None else f"{mean} ± {number(statistics.mean - statistics.low, digits)}"


def _to_leader(answer: Answer, configuration: ConfigurationAnswer) -> str:
    """Paired difference to the leader, with the interval that agrees with the verdict."""
    difference = configuration.differences.get(answer.metric)
    if difference is None:
        return ""
    mean = signed(difference.mean, 3)
    if difference.low_adjusted is None or difference.high_adjusted is None:
        return mean
    return f"{mean} ({signed(difference.low_adjusted, 3)} to {signed(difference.high_adjusted, 3)})"
