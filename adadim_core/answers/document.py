"""The answer as a document: what the API, results.json and every page show."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["best", "leads", "none", "no statement"]
Standing = Literal["best", "leads", "not distinguishable", "worse", "not compared", "not ranked"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Statistics(_Document):
    """A metric over the replicates of a configuration."""

    n: int
    mean: float
    sd: float | None
    """Standard deviation (n - 1); null for one replicate."""
    low: float | None
    high: float | None
    """95 % t interval of the mean."""


class Difference(_Document):
    """A configuration minus the leader, paired by seed."""

    seeds: int
    """Seeds that both have."""
    mean: float
    sd: float | None
    """Standard deviation of the differences."""
    low: float | None = None
    high: float | None = None
    """95 % interval of this difference taken alone; null, as all below, where the seeds do not allow a test."""
    low_adjusted: float | None = None
    high_adjusted: float | None = None
    """Interval that agrees with the verdict over all comparisons: excludes 0 just where p_adjusted <= method.level."""
    p: float | None = None
    """Of the two-sided paired t test."""
    p_adjusted: float | None = None
    """After Holm's adjustment over all pairs of ranked configurations."""


class SweptField(_Document):
    """Something that configurations differ in."""

    name: str
    """Short and its own, as "lr" or "alpha"."""
    path: str
    """In the spec, as "training.lr"."""
    numeric: bool
    within: str | None
    """The branch that has the field, as "weighting=fixed"; null if every configuration has it."""


class ConfigurationAnswer(_Document):
    """One configuration: its replicates, its statistics and its standing."""

    number: int
    """Position in the order of first trials, from 0."""
    label: str
    params: dict[str, Any]
    """Dotted spec path to value, without the seed."""
    fields: dict[str, Any] = {}
    """Value of each swept field that it has, by the field's name."""
    trials: list[int]
    """Numbers of all its trials."""
    seeds: list[int]
    """Of its replicates: trials that trained to their end and have a number for the metric."""
    values: list[float]
    """The metric of each replicate, in the order of seeds."""
    standing: Standing
    rank: int | None
    """Order of the means, adjusted for missing seeds, from 1; null where it is not ranked. What is not distinguishable
    has no order that counts. The leader is the first of those that no other beats beyond doubt."""
    flags: list[str]
    """Why it is not ranked."""
    statistics: dict[str, Statistics]
    """By metric."""
    differences: dict[str, Difference]
    """By metric: the one that ranks and those that say why; empty for the leader."""
    cells: list[str] = []
    """The row of the table, as every surface shows it."""
    more_seeds: int | None
    """About how many more seeds would distinguish it from the leader; null if it is, or none would."""
    untested: str | None = None
    """Why it is not compared with the leader; null where it is."""


class Resolution(_Document):
    """The resolution of the metric."""

    images: int
    """Size of the test set."""
    step: float
    """1 / images."""
    binomial_error: float
    """Standard error of the leader's mean under resampling of the images: sqrt(p (1 - p) / images)."""
    spread: float
    """Largest minus smallest mean of the ranked configurations, adjusted for missing seeds."""
    saturated: bool
    """The spread is no larger than the binomial error or one image."""


class Agreement(_Document):
    """How well a measure without labels would have ranked the configurations."""

    measure: str
    against: str
    """The metric with labels."""
    configurations: int
    tau: float | None
    """Kendall's tau-b, positive where the measure prefers what the metric prefers."""
    low: float | None
    high: float | None
    """95 % interval over configurations; null under five of them."""
    picks: int
    """Number of the configuration it would have chosen."""
    costs: float
    """How much worse that one's mean is than the best mean, in the metric with labels, adjusted for missing seeds."""


class Method(_Document):
    """The method behind the verdict."""

    confidence: float
    """Of the intervals of means and of single differences."""
    level: float
    """Family-wise error of all comparisons: 0.05, after a race what its looks left of it."""
    test: str
    adjustment: str
    comparisons: int
    """Pairs tested."""
    difference_level: float | None = None
    """One minus the confidence of each interval `low_adjusted` to `high_adjusted` of the metric that ranks."""


class Answer(_Document):
    """The result of a sweep, in numbers and in words."""

    verdict: Verdict
    sentence: str
    """The statement."""
    why: str | None
    """What H(R), I(R;Z) and effective rank do meanwhile."""
    selection: str | None
    """The result of choosing by measures without labels, if the sweep has labels to judge it by."""
    notes: list[str]
    """What a reader must know beside it: left-out configurations, a saturated metric, a sweep that still runs."""
    metric: str
    title: str
    """The metric in words."""
    mode: Literal["max", "min"]
    final: bool
    """Whether every trial has ended."""
    trials_done: int
    trials: int
    leader: int | None
    """Number of the configuration with the best mean among those that no other beats beyond doubt."""
    resolution: Resolution | None
    """Null if the metric is not a share of images."""
    method: Method
    fields: list[SweptField] = []
    """What the configurations differ in."""
    not_comparable: dict[str, str] = {}
    """Metrics whose values cannot be compared between these configurations, and why."""
    columns: list[str] = []
    """Headings of the table whose rows are the cells of the configurations."""
    configurations: Annotated[list[ConfigurationAnswer], Field(description="The leader first, then by rank.")]
    without_labels: list[Agreement]
    """For each measure that needs no labels."""


class FieldImportance(_Document):
    """How much of the order of configurations one swept field explains by itself."""

    field: str
    within: str | None
    """The branch it is judged in; null: all configurations."""
    configurations: int
    """How many it is judged by."""
    share: float | None
    """Of the variance of the ranks, 0 to 1; null where it is refused."""
    low: float | None
    high: float | None
    """95 % interval over bootstraps of the configurations."""
    refused: str | None
    """Why no share is told; null where one is."""


class Importance(_Document):
    """Which swept fields matter for the metric of a sweep."""

    metric: str
    title: str
    configurations: int
    """Those with a value."""
    refused: str | None
    """Why nothing is told; null where something is."""
    sentence: str
    """The result in words."""
    fields: list[FieldImportance]
    """The most important first."""
