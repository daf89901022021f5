"""Tables whose rows are one line each, within a given width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column, and what happens to it where the width does not suffice for all."""

    head: str
    justify: Literal["left", "right"] = "left"
    shrinks_to: int | None = None
    """It is cut down to this many characters, each cell ending in "…"; None: it keeps its width."""
    dropped: int | None = None
    """It is left out, those with the largest number first; None: it stays."""


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> Table:
    """A table at most `width` wide. Columns shrink first; where that does not suffice, some are left out."""
    widths = [
        max([cell_len(column.head), *(cell_len(str(row[k])) for row in rows)]) for k, column in enumerate(columns)
    ]
    kept = _kept(columns, widths, width)
    spare = width - sum(_least(columns[k], widths[k]) for k in kept) - _GAP * (len(kept) - 1)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for k in kept:
        least = _least(columns[k], widths[k])
        given = min(widths[k], least + max(spare, 0))
        spare -= given - least
        table.add_column(columns[k].head, justify=columns[k].justify, width=given, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(_text(row[k]) for k in kept))
    return table


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Positions of the columns that fit beside each other."""
    kept = list(range(len(columns)))
    for k in sorted(kept, key=lambda k: -(columns[k].dropped or 0)):
        needed = sum(_least(columns[j], widths[j]) for j in kept) + _GAP * (len(kept) - 1)
        if needed <= width or columns[k].dropped is None:
            break
        kept.remove(k)
    return kept


def _least(column: Column, width: int) -> int:
    return width if column.shrinks_to is None else min(width, column.shrinks_to)


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)
