"""The metrics: one table with the words of every metric and what may be concluded from it.

Owns names, titles, units, number formats and how values compare. Does not own how a metric is measured (adadim_core)
or stored (service). Metrics may be added, none renamed: stored points and dashboards refer to them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What is needed to show a metric, rank by it and compare it."""

    name: str
    """Key of its points, as `h_r`."""
    title: str
    """Heading of its column and its chart, as "H(R)"."""
    description: str
    """What it measures, in one line."""
    short_title: str = ""
    """Title within a sentence or over a narrow column, if the title is too long for it."""
    unit: str = ""
    """Unit of its values, as "nats"; empty for a number without one."""
    decimals: int | None = None
    """Digits shown after the point; None: four significant digits."""
    limits: tuple[float, float] | None = None
    """Smallest and largest possible value, where a chart should show the whole range."""
    higher_is_better: bool | None = None
    """Whether a higher value is a better one; None where neither is."""
    comparable: bool = True
    """Whether values of trials that differ in the objective (weighting, losses) can be compared."""
    of_the_order: bool = False
    """Whether it is measured at the order of I(R;Z) in the loss, so that trials of other orders measure another."""
    ranks: bool = False
    """Whether it may be `search.metric`."""
    needs_labels: bool = False
    """Whether it is measured on labelled data only."""
    summary: bool = False
    """Whether tables of trials show it beside the metric that ranks them."""
    explains: bool = False
    """Whether answers and reports show its differences beside those of the metric that ranks."""
    label_free: bool = False
    """Whether it estimates the quality of a representation without labels, to be compared with the one by labels."""
    share_of_images: bool = False
    """Whether it is a number of the data set's test images over the number of all of them."""
    asked_by: Literal["", "linear_probe", "few_labels", "transfer"] = ""
    """Field of `evaluation` without which it is not measured; empty: it always is."""
    at_the_end: bool = False
    """Whether it is measured after the last epoch only, whatever the spec says."""
    of_all_images: bool = False
    """Whether it is measured on a fixed set of images without labels, not on a training batch."""
    chart: bool = False
    """Whether an experiment's page shows its curves and its column at first."""
    gauge: bool = False
    """Whether Prometheus gets its last value for every running trial."""


_TABLE = (
    Metric(
        name="h_r",
        title="H(R)",
        description="entropy H(R): matrix-based Renyi entropy of centred R",
        unit="nats",
        decimals=3,
        ranks=True,
        summary=True,
        gauge=True,
        explains=True,
        label_free=True,
        chart=True,
    ),
    Metric(
        name="i_rz",
        title="I(R;Z)",
        description="mutual information I(R;Z): matrix-based Renyi, of centred R and Z, at the order of the loss",
        unit="nats",
        of_the_order=True,
        decimals=3,
        ranks=True,
        summary=True,
        gauge=True,
        explains=True,
        label_free=True,
        chart=True,
    ),
    Metric(
        name="alpha",
        title="alpha",
        description="weight of the sample-contrastive loss",
        decimals=3,
        limits=(0.0, 1.0),
        summary=True,
        gauge=True,
        chart=True,
    ),
    Metric(
        name="knn_top1",
        title="k-NN accuracy",
        description="share of held-out images that the nearest neighbours in R classify correctly",
        decimals=3,
        higher_is_better=True,
        ranks=True,
        needs_labels=True,
        summary=True,
        share_of_images=True,
        chart=True,
    ),
    Metric(
        name="linear_top1",
        title="Linear probe accuracy",
        description="share of held-out images that a linear probe on R classifies correctly",
        decimals=3,
        higher_is_better=True,
        ranks=True,
        needs_labels=True,
        asked_by="linear_probe",
        share_of_images=True,
    ),
    *(
        Metric(
            name=f"few_labels_{percent}",
            title=f"Linear probe, {percent} % of labels",
            description=f"share of held-out images that a linear probe on R, fitted on {percent} % of the labels, "
            "classifies correctly",
            decimals=3,
            higher_is_better=True,
            ranks=True,
            needs_labels=True,
            asked_by="few_labels",
            at_the_end=True,
            share_of_images=True,
        )
        for percent in (1, 10)
    ),
    Metric(
        name="transfer_knn_top1",
        title="Transfer, k-NN accuracy",
        description="k-NN accuracy in R on the second data set",
        decimals=3,
        higher_is_better=True,
        ranks=True,
        needs_labels=True,
        asked_by="transfer",
        at_the_end=True,
    ),
    Metric(
        name="transfer_linear_top1",
        title="Transfer, linear probe accuracy",
        description="accuracy of a linear probe on R on the second data set",
        decimals=3,
        higher_is_better=True,
        ranks=True,
        needs_labels=True,
        asked_by="transfer",
        at_the_end=True,
    ),
    Metric(
        name="knn_map",
        title="k-NN mAP",
        description="mean average precision of ranking the held-out images by each of several labels, by the nearest "
        "neighbours in R",
        decimals=3,
        higher_is_better=True,
        ranks=True,
        needs_labels=True,
    ),
    Metric(
        name="erank_r",
        title="Effective rank of R",
        description="effective rank of R",
        short_title="effective rank",
        ranks=True,
        explains=True,
        label_free=True,
    ),
    Metric(name="erank_z", title="Effective rank of Z", description="effective rank of Z", ranks=True),
    Metric(
        name="rankme",
        title="RankMe",
        description="RankMe: effective rank of Z of un-augmented training images, not centred",
        higher_is_better=True,
        ranks=True,
        label_free=True,
        of_all_images=True,
    ),
    Metric(
        name="alpha_req",
        title="alpha-ReQ",
        description="alpha-ReQ: exponent of the power law in the eigenvalues of R of un-augmented training images",
        decimals=3,
        of_all_images=True,
    ),
    Metric(
        name="alpha_req_distance",
        title="|alpha-ReQ - 1|",
        description="distance of alpha-ReQ from 1, where representations are best",
        decimals=3,
        higher_is_better=False,
        ranks=True,
        label_free=True,
        of_all_images=True,
    ),
    Metric(
        name="lidar",
        title="LiDAR",
        description="LiDAR: effective rank of what tells images apart against what tells views apart, in Z",
        higher_is_better=True,
        ranks=True,
        label_free=True,
    ),
    Metric(
        name="balance",
        title="Balance",
        description="2 sqrt(I (H - I)): H(R), where I(R;Z) and the rest of it are as large; 0 where one is",
        unit="nats",
        of_the_order=True,
        decimals=3,
        higher_is_better=True,
        ranks=True,
        explains=True,
        label_free=True,
    ),
    Metric(
        name="uniformity",
        title="Uniformity",
        description="log mean Gaussian potential of pairs of Z; lower is more uniform",
        decimals=3,
        ranks=True,
    ),
    Metric(
        name="alignment",
        title="Alignment",
        description="mean squared distance between Z of the two views; lower is closer",
        decimals=3,
        ranks=True,
    ),
    Metric(
        name="loss",
        title="Loss",
        description="the whole objective",
        higher_is_better=False,
        comparable=False,
        ranks=True,
        gauge=True,
        chart=True,
    ),
    Metric(
        name="loss_dimension",
        title="Dimension loss",
        description="the dimension-contrastive loss, before its weight",
        higher_is_better=False,
        comparable=False,
    ),
    Metric(
        name="loss_sample",
        title="Sample loss",
        description="the sample-contrastive loss, before its weight",
        higher_is_better=False,
        comparable=False,
    ),
    Metric(
        name="loss_invariance",
        title="Invariance loss",
        description="VICReg's mean squared difference of the two views, before its weight",
        higher_is_better=False,
        comparable=False,
    ),
    Metric(
        name="loss_variance",
        title="Variance loss",
        description="VICReg's hinge on the standard deviations, mean of the two views, before its weight",
        higher_is_better=False,
        comparable=False,
    ),
    Metric(
        name="loss_covariance",
        title="Covariance loss",
        description="VICReg's squared off-diagonal covariances, sum of the two views, before its weight",
        higher_is_better=False,
        comparable=False,
    ),
    Metric(
        name="loss_mi",
        title="I(R;Z) in the loss",
        description="I(R;Z) as it enters the loss: uncentred, before beta",
        unit="nats",
        comparable=False,
    ),
    Metric(
        name="beta",
        title="beta",
        description="weight of the I(R;Z) term; negative where the term is rewarded",
        decimals=3,
    ),
    Metric(name="lr", title="Learning rate", description="learning rate"),
    Metric(
        name="collapsed",
        title="Collapsed",
        description="1 at the step at which the collapse watch flagged the trial",
        higher_is_better=False,
    ),
    Metric(
        name="images_per_s",
        title="Images per second",
        description="training images per second, each counted once for both views",
        unit="images/s",
        higher_is_better=True,
    ),
    Metric(
        name="gpu_memory",
        title="GPU memory",
        description="GPU memory that the trial's process holds, the most since the point before",
        unit="GiB",
        decimals=2,
        gauge=True,
    ),
    Metric(
        name="gpu_utilization",
        title="GPU utilization",
        description="share of time in which the GPU was at work, for whichever process",
        decimals=2,
        limits=(0.0, 1.0),
        gauge=True,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}
"""Every metric by name, in the order in which people are offered them."""

EXPLAINING = tuple(name for name, metric in METRICS.items() if metric.explains)
"""Metrics whose differences stand beside those of the metric that ranks: they say why."""

if TYPE_CHECKING:
    RankingMetric = str
else:  # a Literal, so that JSON Schema and error messages list the names
    RankingMetric = Literal[tuple(name for name, metric in METRICS.items() if metric.ranks)]


def summary_titles(*names: str) -> dict[str, str]:
    """Names and titles of the metrics that a table of trials shows: those of every summary, then the given ones."""
    shown = [name for name, metric in METRICS.items() if metric.summary]
    return {name: metric_title(name) for name in dict.fromkeys([*shown, *names])}


def metric_title(name: str) -> str:
    """The title of a metric; a name that is not in the table is its own title."""
    return METRICS[name].title if name in METRICS else name


def short_metric_title(name: str) -> str:
    """The title of a metric within a sentence or over a narrow column."""
    return (METRICS[name].short_title if name in METRICS else "") or metric_title(name)
