"""Figures and tables of the study from its stored results; `study.py report` writes them.

Numbers and statements are those of the product's analysis: nothing is computed here but which of them are shown.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from pages import into_page, table
from study import STUDY

from adadim_core.answers.document import Answer, ConfigurationAnswer
from adadim_core.report.figures import STYLE, axis_title, color_of, intervals, mean_curve
from adadim_core.report.material import Material
from adadim_core.spec.metrics import METRICS

_ACCURACIES = ("knn_top1", "linear_top1", "few_labels_1", "few_labels_10")
_QUANTITIES = ("h_r", "i_rz", "erank_r")
_PHASES = ("fixed 0", "fixed 0.5", "fixed 1", "linear 0 to 1", "cosine 0 to 1", "adaptive")


def write(found: Mapping[str, Material]) -> None:
    """Bring docs/study/README.md and its figures up to date."""
    page = STUDY / "README.md"
    page.write_text(into_page(page.read_text(), texts(found)))
    with mpl.rc_context(STYLE):
        for name, figure in drawings(found).items():
            figure.savefig(STUDY / "figures" / f"{name}.png", dpi=150, metadata={"Software": None})


def texts(found: Mapping[str, Material]) -> dict[str, str]:
    """The statements and tables of each sweep, and what label-free measures would have made of them."""
    made = {name: _statement(material.answer) for name, material in found.items()}
    return made | {"label-free": _label_free(found)}


def drawings(found: Mapping[str, Material]) -> dict[str, Figure]:
    """The figures by name."""
    made = {name: figure for name, material in found.items() if (figure := intervals(material)) is not None}
    if "weighting" in found:
        made["alpha"] = _courses(found["weighting"], ["alpha"], _adaptive(found["weighting"]))
        made["phases"] = _courses(found["weighting"], ["h_r", "i_rz"], _named(found["weighting"], _PHASES))
    return made | {"plane": _plane(found)}


def _statement(answer: Answer) -> str:
    """What the product says of a sweep, and the table behind it."""
    accuracies = [name for name in _ACCURACIES if any(name in c.statistics for c in answer.configurations)]
    shown = [*accuracies, *_QUANTITIES]
    heading = ["configuration", "seeds", *(METRICS[name].title for name in shown), "k-NN minus leader", "standing"]
    lines = [
        [c.label, len(c.seeds), *(_interval(c, name) for name in shown), _difference(c), c.standing]
        for c in answer.configurations
    ]
    return f"> {answer.sentence}\n\n{table(heading, lines)}"


def _interval(configuration: ConfigurationAnswer, metric: str) -> str:
    statistics = configuration.statistics.get(metric)
    if statistics is None:
        return ""
    digits = 3 if metric in _ACCURACIES else 2
    if statistics.low is None:
        return f"{statistics.mean:.{digits}f}"
    return f"{statistics.mean:.{digits}f} ± {statistics.mean - statistics.low:.{digits}f}"


def _difference(configuration: ConfigurationAnswer) -> str:
    """Paired difference to the leader, with the interval that agrees with the verdict."""
    difference = next(iter(configuration.differences.values()), None)
    if difference is None:
        return ""
    if difference.low_adjusted is None:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} ({difference.low_adjusted:+.3f} to {difference.high_adjusted:+.3f})"


def _label_free(found: Mapping[str, Material]) -> str:
    lines: list[list[Any]] = []
    for name, material in found.items():
        for agreement in material.answer.without_labels:
            tau = "" if agreement.tau is None else f"{agreement.tau:+.2f}"
            if agreement.low is not None:
                tau += f" ({agreement.low:+.2f} to {agreement.high:+.2f})"
            picked = material.answer.configurations[agreement.picks].label
            title = METRICS[agreement.measure].title
            lines.append([name, title, agreement.configurations, tau, picked, f"{agreement.costs:.3f}"])
    heading = ["sweep", "measure", "configurations", "Kendall's tau", "it would pick", "which costs"]
    return table(heading, lines) if lines else ""


def _courses(material: Material, metrics: list[str], shown: list[ConfigurationAnswer]) -> Figure:
    """Mean over seeds with the 95 % interval of the mean, over training."""
    figure = Figure(figsize=(3.4 * len(metrics) + 1.6, 2.8), layout="constrained")
    for metric, axes in zip(metrics, figure.subplots(1, len(metrics), squeeze=False).flat, strict=True):
        for k, configuration in enumerate(shown):
            curves = material.curves[metric]
            band = mean_curve([curves[trial] for trial in configuration.trials if trial in curves])
            if band is not None:
                epochs, mean, low, high = band
                axes.plot(epochs, mean, color=color_of(k), linewidth=1.0, label=configuration.label)
                axes.fill_between(epochs, low, high, color=color_of(k), alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=axis_title(metric))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _plane(found: Mapping[str, Material]) -> Figure:
    """H(R) against I(R;Z) of every configuration at one batch size, coloured by accuracy."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    points = [
        (c.statistics["h_r"].mean, c.statistics["i_rz"].mean, c.statistics["knn_top1"].mean)
        for name, material in found.items()
        if name != "batch"  # entropies depend on the number of images in a batch
        for c in material.answer.configurations
        if {"h_r", "i_rz", "knn_top1"} <= c.statistics.keys()
    ]
    if points:
        entropy, information, accuracy = zip(*points, strict=True)
        figure.colorbar(axes.scatter(entropy, information, c=accuracy, cmap="viridis"), label=axis_title("knn_top1"))
    axes.set(xlabel=axis_title("h_r"), ylabel=axis_title("i_rz"))
    return figure


def _adaptive(material: Material) -> list[ConfigurationAnswer]:
    return [c for c in _by_number(material) if c.label.startswith("adaptive")]


def _named(material: Material, labels: tuple[str, ...]) -> list[ConfigurationAnswer]:
    return [c for label in labels for c in _by_number(material) if c.label == label]


def _by_number(material: Material) -> list[ConfigurationAnswer]:
    return sorted(material.answer.configurations, key=lambda c: c.number)
