"""The figures of the study, each with its caption: which of the product's drawings show what was asked."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from adadim_core.answers.document import ConfigurationAnswer
from adadim_core.report.figures import axis_title, color_of, intervals, mean_curve
from adadim_core.report.material import Material
from adadim_core.spec.metrics import METRICS

QUANTITIES = ("h_r", "i_rz")
_PHASES = ("fixed 0", "fixed 0.5", "fixed 1", "linear 0 to 1", "cosine 0 to 1", "adaptive")
_OVER_SEEDS = "mean over seeds, with the 95 % interval of the mean"


def drawings(found: Mapping[str, Material]) -> dict[str, tuple[Figure, str]]:
    """The figures and their captions by name, as far as there are results for them."""
    made = {
        name: (figure, f"Accuracy by configuration: {_OVER_SEEDS}, and each seed.")
        for name, material in found.items()
        if (figure := intervals(material)) is not None
    }
    if "weighting" in found:
        weighting = found["weighting"]
        adaptive = [c for c in by_number(weighting) if c.label.startswith("adaptive")]
        named = [c for label in _PHASES for c in by_number(weighting) if c.label == label]
        made["alpha"] = (
            _courses(weighting, ["alpha"], adaptive),
            f"alpha over training for every normaliser and for pooled rows ('adaptive' alone is min): {_OVER_SEEDS}.",
        )
        made["phases"] = (_courses(weighting, QUANTITIES, named), f"H(R) and I(R;Z) over training: {_OVER_SEEDS}.")
    if (plane := _plane(found)) is not None:
        made["plane"] = (
            plane,
            "Every configuration in the plane of H(R) and I(R;Z), by accuracy; a ring around each sweep's best.",
        )
    if (agreement := _agreement(found)) is not None:
        made["label-free"] = (agreement, "Kendall's tau between each measure and k-NN accuracy, with 95 % intervals.")
    return made


def by_number(material: Material) -> list[ConfigurationAnswer]:
    """The configurations in the order of the spec."""
    return sorted(material.answer.configurations, key=lambda c: c.number)


def comparable(found: Mapping[str, Material]) -> dict[str, list[ConfigurationAnswer]]:
    """Of each sweep the configurations whose H(R) and I(R;Z) can be compared: they depend on the images of a batch."""
    return {
        name: [c for c in material.answer.configurations if {*QUANTITIES} <= c.statistics.keys()]
        for name, material in found.items()
        if name != "batch"
    }


def _courses(material: Material, metrics: Sequence[str], shown: list[ConfigurationAnswer]) -> Figure:
    figure = Figure(figsize=(3.4 * len(metrics) + 1.6, 2.8), layout="constrained")
    for metric, axes in zip(metrics, figure.subplots(1, len(metrics), squeeze=False).flat, strict=True):
        curves = material.curves.get(metric, {})
        for k, configuration in enumerate(shown):
            band = mean_curve([curves[trial] for trial in configuration.trials if trial in curves])
            if band is not None:
                epochs, mean, low, high = band
                axes.plot(epochs, mean, color=color_of(k), linewidth=1.0, label=configuration.label)
                axes.fill_between(epochs, low, high, color=color_of(k), alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=axis_title(metric))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _plane(found: Mapping[str, Material]) -> Figure | None:
    shown = [c for sweep in comparable(found).values() for c in sweep if "knn_top1" in c.statistics]
    if not shown:
        return None

    def means(metric: str, of: list[ConfigurationAnswer] = shown) -> list[float]:
        return [c.statistics[metric].mean for c in of]

    best = [c for c in shown if c.rank == 1]
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    points = axes.scatter(means("h_r"), means("i_rz"), c=means("knn_top1"), cmap="viridis")
    figure.colorbar(points, label=axis_title("knn_top1"))
    axes.scatter(means("h_r", best), means("i_rz", best), s=90, facecolors="none", edgecolors="black")
    axes.set(xlabel=axis_title("h_r"), ylabel=axis_title("i_rz"))
    return figure


def _agreement(found: Mapping[str, Material]) -> Figure | None:
    told = {
        name: {a.measure: a for a in material.answer.without_labels if a.tau is not None}
        for name, material in found.items()
    }
    measures = list(dict.fromkeys(measure for agreements in told.values() for measure in agreements))
    if not measures:
        return None
    figure = Figure(figsize=(5.5, 0.9 + 0.32 * len(measures)), layout="constrained")
    axes = figure.add_subplot()
    for k, (name, agreements) in enumerate(told.items()):
        for measure, agreement in agreements.items():
            row = measures.index(measure) + 0.14 * (k - (len(told) - 1) / 2)
            if agreement.low is not None and agreement.high is not None:
                axes.plot([agreement.low, agreement.high], [row, row], color=color_of(k), linewidth=0.8)
            axes.plot(agreement.tau, row, "o", color=color_of(k), markersize=3.5)
        axes.plot([], [], "o", color=color_of(k), markersize=3.5, label=name)
    axes.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(measures)), [METRICS[measure].title for measure in measures])
    axes.invert_yaxis()
    axes.set(xlabel="Kendall's tau", xlim=(-1.05, 1.05))
    figure.legend(loc="outside right upper", title="sweep")
    return figure
