"""Tables in documentation pages: made by a benchmark, kept between two comments that name them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(heading: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""

    def row(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([row(heading), "|" + "---|" * len(heading), *map(row, lines)])


def into_page(page: str, made: Mapping[str, str]) -> str:
    """The page with what stands between `<!-- NAME -->` and `<!-- end NAME -->` replaced.

    Raises:
        ValueError: it has no such place, or more than one.
    """
    for name, text in made.items():
        parts = re.split(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)", page, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"the page has no place for {name}")
        page = f"{parts[0]}{text}\n{parts[1]}" if text else f"{parts[0]}{parts[1]}"
    return page
