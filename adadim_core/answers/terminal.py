"""The answer on a terminal: the statement, why, notes, and the table by configuration. Needs rich."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from adadim_core.answers.document import Answer

WIDTH = 160
"""Columns that hold the table unbroken, for logs and pipes, which have no width of their own."""
_ROWS = 40
_GAP = 2
_ALWAYS = 6
"""Columns before those of other metrics: configuration, seeds, the metric, difference, p and standing."""
_P, _STANDING = _ALWAYS - 2, _ALWAYS - 1
_STYLES = {"best": "bold green", "leads": "bold", "worse": "dim"}


def render(answer: Answer, width: int = WIDTH) -> Group:
    """What a sweep ends with. In a narrow window the metrics beside the one that ranks are left out.

    Args:
        width: characters of a line.
    """
    rows = answer.configurations
    shown = _columns_that_fit([answer.columns, *(c.cells for c in rows[:_ROWS])], width)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for k in shown:
        table.add_column(answer.columns[k], justify="left" if k in (0, _STANDING) else "right")
    for configuration in rows[:_ROWS]:
        style = _STYLES.get(configuration.standing, "")
        table.add_row(*(Text(configuration.cells[k]) for k in shown), style=style)
    parts: list[Table | Text] = [table] if any(c.seeds for c in rows) else []
    if len(rows) > _ROWS:
        parts.append(Text(f"and {len(rows) - _ROWS} more configurations", style="dim"))
    parts.append(Text(answer.sentence, style="bold"))
    if answer.why:
        parts.append(Text(answer.why))
    if answer.selection:
        parts.append(Text(answer.selection, style="dim"))
    parts += [Text(note, style="yellow") for note in answer.notes]
    return Group(*parts)


def _columns_that_fit(rows: list[list[str]], width: int) -> list[int]:
    """Positions of the columns to show: all, or those that say what is best, p only where there is room for it too."""
    count = len(rows[0])
    needed = [max(len(row[k]) for row in rows) + _GAP for k in range(count)]
    if sum(needed) <= width:
        return list(range(count))
    return [k for k in range(_ALWAYS) if k != _P or sum(needed[:_ALWAYS]) <= width]
