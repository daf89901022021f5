"""The table of configurations as CSV, LaTeX and HTML: the same rows and the same rounding in each."""

import csv
import html
import io
from collections.abc import Sequence

from adadim_core.answers.document import Answer, ConfigurationAnswer, Statistics
from adadim_core.answers.numbers import decimals_for, number, signed
from adadim_core.answers.table import explaining
from adadim_core.spec.metrics import metric_title

_MARKS = {"best": "best", "leads": "leads", "not distinguishable": "≈", "worse": "worse"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "≈": r"$\approx$",
    "…": r"\dots{}",
}  # fmt: skip


def headings(answer: Answer) -> list[str]:
    """Headings of the columns."""
    beside = [metric_title(name) for name in explaining(answer)]
    return ["configuration", "seeds", answer.title, "difference to the leader", "p (Holm)", "standing", *beside]


def rows(answer: Answer) -> list[list[str]]:
    """One row a configuration, ranked ones first: as people read it."""
    return [
        [
            configuration.label,
            str(len(configuration.seeds)),
            interval_text(answer.metric, configuration.statistics.get(answer.metric)),
            *_difference(answer, configuration),
            _MARKS.get(configuration.standing, configuration.standing),
            *(interval_text(name, configuration.statistics.get(name)) for name in explaining(answer)),
        ]
        for configuration in answer.configurations
    ]


def to_csv(answer: Answer) -> str:
    """Numbers in full, one column each, for programs."""
    file = io.StringIO()
    metrics = [answer.metric, *explaining(answer)]
    fields = [f"{name}_{part}" for name in metrics for part in ("n", "mean", "sd", "low", "high")]
    difference = ["difference", "difference_low", "difference_high", "p", "p_holm"]
    difference += ["difference_low_adjusted", "difference_high_adjusted"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["configuration", "standing", "rank", "seeds", *difference, *fields])
    for c in answer.configurations:
        found = c.differences.get(answer.metric)
        parts = ("mean", "low", "high", "p", "p_adjusted", "low_adjusted", "high_adjusted")
        compared = [None if found is None else getattr(found, part) for part in parts]
        values = [
            None if (s := c.statistics.get(name)) is None else getattr(s, part)
            for name in metrics
            for part in ("n", "mean", "sd", "low", "high")
        ]
        writer.writerow([c.label, c.standing, c.rank, " ".join(map(str, c.seeds)), *compared, *values])
    return file.getvalue()


def to_latex(answer: Answer, caption: str) -> str:
    """A table environment that needs no package."""
    columns = headings(answer)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\hline",
        " & ".join(map(latex_text, columns)) + r" \\",
        r"\hline",
        *(" & ".join(map(latex_text, row)) + r" \\" for row in rows(answer)),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(answer: Answer) -> str:
    """A table element."""
    return html_table(headings(answer), rows(answer))


def html_table(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table element of texts."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>\n" for row in body)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody></table>"


def interval_text(metric: str, statistics: Statistics | None) -> str:
    """ "0.871 ± 0.006", with the half width of the 95 % interval; without an interval the mean alone."""
    if statistics is None:
        return ""
    if statistics.low is None or statistics.high is None:
        return number(statistics.mean, decimals_for(metric, 0.0) or 3)
    half = (statistics.high - statistics.low) / 2
    decimals = decimals_for(metric, half)
    return f"{number(statistics.mean, decimals)} ± {number(half, decimals)}"


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _difference(answer: Answer, configuration: ConfigurationAnswer) -> tuple[str, str]:
    found = configuration.differences.get(answer.metric)
    if found is None:
        return "", ""
    if found.low_adjusted is None or found.high_adjusted is None:
        return signed(found.mean, decimals_for(answer.metric, 0.0) or 3), ""
    decimals = decimals_for(answer.metric, (found.high_adjusted - found.low_adjusted) / 2)
    low, high = signed(found.low_adjusted, decimals), signed(found.high_adjusted, decimals)
    p = "" if found.p_adjusted is None else ("< 0.001" if found.p_adjusted < 0.001 else f"{found.p_adjusted:.3f}")
    return f"{signed(found.mean, decimals)} ({low} to {high})", p
