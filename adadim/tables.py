"""Columns of values as pandas, Arrow, HTML or text. pandas and pyarrow are imported where they are asked for."""

import html
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from adadim.client import ClientError
from adadim_core.terminal import terminal_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MOST_ROWS = 30
"""Of a table that is shown in a notebook."""


class Columns:
    """What can be had as a table; the class says which columns it has."""

    def to_pandas(self) -> "pd.DataFrame":
        """The columns as a data frame.

        Raises:
            ClientError: pandas is not installed.
        """
        require("pandas")
        import pandas as pd

        return pd.DataFrame(self._columns())

    def to_arrow(self) -> "pa.Table":
        """The columns as an Arrow table.

        Raises:
            ClientError: pyarrow is not installed.
        """
        require("pyarrow")
        import pyarrow as pa

        table: pa.Table = pa.table({name: pa.array(values) for name, values in self._columns().items()})
        return table

    def _columns(self) -> dict[str, list[Any]]:
        """Values of equal number by the column's name."""
        raise NotImplementedError


def require(*packages: str) -> None:
    """Raises ClientError with what to install, if one of the packages is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ClientError(f"this takes {', '.join(missing)}: pip install 'adadim[client]'")


def html_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """A table for a notebook; long ones are cut, and say so."""
    head = "".join(f"<th>{_cell(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{_cell(text)}</td>" for text in row) + "</tr>" for row in rows[:_MOST_ROWS])
    more = f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else ""
    return f"{paragraph(caption)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def text_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of aligned columns; long ones are cut, and say so."""
    lines = [[terminal_text(str(text)) for text in row] for row in (heads, *rows[:_MOST_ROWS])]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    texts = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if len(rows) > _MOST_ROWS:
        texts.append(f"and {len(rows) - _MOST_ROWS} more")
    return "\n".join(texts)


def paragraph(text: str | None) -> str:
    """Text as an HTML paragraph; nothing for none."""
    return f"<p>{_cell(text)}</p>" if text else ""


def by_column(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, in the order in which their names first occur; None where a row has no value."""
    held = list(rows)
    names = dict.fromkeys(name for row in held for name in row)
    return {name: [row.get(name) for row in held] for name in names}


def _cell(value: Any) -> str:
    return html.escape(terminal_text(str(value)), quote=False)
