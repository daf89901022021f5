"""The answer as a table of texts: one row per configuration, for terminals and other clients that show cells.

Owns the columns and the text of cells. Does not own how a table is drawn.
"""

from adadim_core.answers.document import Answer, ConfigurationAnswer, Difference, Statistics
from adadim_core.answers.numbers import decimals_for, number, signed
from adadim_core.spec.metrics import EXPLAINING, short_metric_title

_LEAST_P = 0.001


def columns(answer: Answer) -> list[str]:
    """The headings."""
    beside = map(short_metric_title, explaining(answer))
    return ["configuration", "seeds", answer.title, "difference", "p", "standing", *beside]


def cells(answer: Answer) -> list[list[str]]:
    """A row for each configuration, in the order of the answer."""
    beside = explaining(answer)
    return [
        [
            configuration.label,
            str(len(configuration.seeds)),
            mean(configuration.statistics.get(answer.metric), answer.metric),
            difference(configuration.differences.get(answer.metric), answer.metric),
            p_value(configuration.differences.get(answer.metric)),
            standing(configuration),
            *(mean(configuration.statistics.get(metric), metric) for metric in beside),
        ]
        for configuration in answer.configurations
    ]


def mean(found: Statistics | None, metric: str) -> str:
    """ "0.871 ± 0.006", the half width of the 95 % interval; of one replicate its value alone."""
    if found is None:
        return "–"
    if found.low is None:
        return number(found.mean, decimals_for(metric, 1e-3 * abs(found.mean)))
    half = found.mean - found.low
    decimals = decimals_for(metric, half)
    return f"{number(found.mean, decimals)} ± {number(half, decimals)}"


def difference(found: Difference | None, metric: str) -> str:
    """ "−0.003, −0.009 to 0.003": the difference to the leader with the interval that agrees with the verdict."""
    if found is None:
        return ""
    if found.low_adjusted is None or found.high_adjusted is None:
        return signed(found.mean, decimals_for(metric, abs(found.mean)))
    decimals = decimals_for(metric, (found.high_adjusted - found.low_adjusted) / 2)
    low, high = (number(x, decimals) for x in (found.low_adjusted, found.high_adjusted))
    return f"{signed(found.mean, decimals)}, {low} to {high}"


def p_value(found: Difference | None) -> str:
    """The adjusted p value."""
    if found is None or found.p_adjusted is None:
        return ""
    return f"{found.p_adjusted:.3f}" if found.p_adjusted >= _LEAST_P else "< 0.001"


def standing(configuration: ConfigurationAnswer) -> str:
    """Where it stands; why it is not ranked, and how many more seeds would help."""
    if configuration.flags:
        return f"not ranked: {', '.join(configuration.flags)}"
    if configuration.untested is not None:
        return f"{configuration.standing} ({configuration.untested})"
    if configuration.more_seeds is not None:
        return f"{configuration.standing} ({configuration.more_seeds} more seeds)"
    return configuration.standing


def explaining(answer: Answer) -> list[str]:
    """The measured metrics that stand beside the one that ranks."""
    measured = {metric for c in answer.configurations for metric in c.statistics}
    return [metric for metric in EXPLAINING if metric in measured and metric != answer.metric]
