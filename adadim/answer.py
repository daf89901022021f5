"""The answer of a sweep in a notebook: the service's document, shown and as a table. Computes nothing of its own."""

from typing import Any

from adadim.tables import Columns, by_column, html_table, paragraph
from adadim_core.answers.document import Answer as Document
from adadim_core.answers.document import ConfigurationAnswer
from adadim_core.terminal import terminal_text


class Answer(Columns, Document):
    """Which configuration is best, by how much, and what is not known.

    Every field of the service's answer is an attribute: `verdict`, `sentence`, `why`, `notes`, `configurations`, ...
    `print(answer)` shows the statement with its table, as `adadim answer` does.

    As a table it has a row for each configuration, the leader first, then by rank. Columns: configuration (its number),
    label, standing, rank, replicates, trials (their numbers), more_seeds; difference to the leader with its interval
    and p adjusted over all comparisons (difference, difference_low, difference_high, p_adjusted); of each metric that
    was measured `METRIC.mean`, `.sd`, `.low` and `.high`.
    """

    def __str__(self) -> str:
        from adadim_core.answers.terminal import WIDTH, render
        from adadim_core.console import SafeConsole

        console = SafeConsole(width=WIDTH, no_color=True, highlight=False)
        with console.capture() as capture:
            console.print(render(self, WIDTH))
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def __repr__(self) -> str:
        return f"<answer: {terminal_text(self.sentence)}>"

    def _repr_html_(self) -> str:
        beside = [*filter(None, (self.why, self.selection)), *self.notes]
        rows = [configuration.cells for configuration in self.configurations]
        shown = html_table(self.columns, rows) if rows else ""
        return f"<p><b>{paragraph(self.sentence)[3:-4]}</b></p>{shown}{''.join(map(paragraph, beside))}"

    def _columns(self) -> dict[str, list[Any]]:
        return by_column(self._row(configuration) for configuration in self.configurations)

    def _row(self, configuration: ConfigurationAnswer) -> dict[str, Any]:
        difference = configuration.differences.get(self.metric)
        row: dict[str, Any] = {
            "configuration": configuration.number,
            "label": configuration.label,
            "standing": configuration.standing,
            "rank": configuration.rank,
            "replicates": len(configuration.seeds),
            "trials": configuration.trials,
            "more_seeds": configuration.more_seeds,
            "difference": difference.mean if difference else None,
            "difference_low": difference.low_adjusted if difference else None,
            "difference_high": difference.high_adjusted if difference else None,
            "p_adjusted": difference.p_adjusted if difference else None,
        }
        for metric, found in configuration.statistics.items():
            parts = {"mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high}
            row |= {f"{metric}.{name}": value for name, value in parts.items()}
        return row
