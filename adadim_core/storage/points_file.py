"""A run's points.parquet, opened as a file that others can write to: it holds no more than its size can.

A few bytes of Parquet can stand for any number of equal rows. Does not own what is in the columns.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adadim_core.storage.reading import open_regular

_ALWAYS_ROWS = 10_000
_SMALLEST_ROW = 3
"""Bytes: measured values differ, and need twice as many each."""
_MOST_EXPANSION, _ALWAYS_EXPANDED = 100, 2**22


@contextmanager
def opened_points(path: Path) -> Iterator[Any]:
    """The file as a pyarrow.parquet.ParquetFile.

    Raises:
        FileNotFoundError: there is none, or it is no regular file.
        OSError, pyarrow.ArrowException: it cannot be read, is damaged, or stands for more rows than it has bytes.
    """
    from pyarrow import parquet

    with open_regular(path.parent.resolve(), path.name) as file:
        size = os.fstat(file.fileno()).st_size
        with parquet.ParquetFile(file) as points:
            groups = [points.metadata.row_group(number) for number in range(points.metadata.num_row_groups)]
            rows = max(points.metadata.num_rows, sum(group.num_rows for group in groups))
            expanded = sum(group.total_byte_size for group in groups)
            if rows > size // _SMALLEST_ROW + _ALWAYS_ROWS or expanded > max(_MOST_EXPANSION * size, _ALWAYS_EXPANDED):
                raise OSError(f"its {size} bytes claim {rows} points, more than fit into them")
            yield points
