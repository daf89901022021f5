"""The answer on a terminal: the statement, why, notes, and the table by configuration. Needs rich."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from adadim_core.answers.document import Answer

_ROWS = 40
_STYLES = {"best": "bold green", "leads": "bold", "worse": "dim"}


def render(answer: Answer) -> Group:
    """What a sweep ends with."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    last = len(answer.columns) - 1
    for k, heading in enumerate(answer.columns):
        table.add_column(heading, justify="left" if k in (0, last) else "right")
    rows = answer.configurations
    for configuration in rows[:_ROWS]:
        table.add_row(*map(Text, configuration.cells), style=_STYLES.get(configuration.standing, ""))
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
