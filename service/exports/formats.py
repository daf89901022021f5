"""CSV and Parquet, a piece at a time: rows go in as they are read, bytes come out as they are ready.

One row a point: trial, metric, step, epoch, time (Unix seconds), value. Knows nothing of where rows come from.
"""

import io
import json
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

SCHEMA = pa.schema(
    [
        ("trial", pa.int32()),
        ("metric", pa.string()),
        ("step", pa.int64()),
        ("epoch", pa.float32()),
        ("time", pa.float64()),
        ("value", pa.float64()),
    ]
)


class Format(Protocol):
    """Turns tables of SCHEMA into bytes."""

    def add(self, table: pa.Table) -> bytes:
        """The bytes that are ready once these rows are in."""

    def end(self) -> bytes:
        """The rest."""


class Csv:
    """Comma-separated text with a header line; values that are not finite read `nan`, `inf` and `-inf`."""

    def __init__(self) -> None:
        self._header = True

    def add(self, table: pa.Table) -> bytes:
        sink = io.BytesIO()
        options = pyarrow.csv.WriteOptions(include_header=self._header, quoting_style="needed")
        pyarrow.csv.write_csv(table, sink, options)
        self._header = False
        return sink.getvalue()

    def end(self) -> bytes:
        return self.add(SCHEMA.empty_table()) if self._header else b""


class Parquet:
    """One row group a table. The file's metadata carries `description` as JSON under `adadim`."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._sink = _Pieces()
        schema = SCHEMA.with_metadata({"adadim": json.dumps(description)})
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, schema, compression="zstd", use_dictionary=["metric"])

    def add(self, table: pa.Table) -> bytes:
        self._writer.write_table(table.replace_schema_metadata(self._writer.schema.metadata), row_group_size=len(table))
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.take()


class _Pieces(io.RawIOBase):
    """A file nobody seeks in: what is written can be taken away at once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
