"""CSV and Parquet, a piece at a time: rows go in as they are read, bytes come out as they are ready.

Knows nothing of what the columns mean or where rows come from.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet


class Format(Protocol):
    """Turns tables of one schema into bytes."""

    def begin(self, schema: pa.Schema) -> None:
        """What the tables to come look like. Called once, first."""

    def add(self, table: pa.Table) -> bytes:
        """The bytes that are ready once these rows are in."""

    def end(self) -> bytes:
        """The rest."""


@dataclass(frozen=True)
class Kind:
    """A format people may ask for."""

    media_type: str
    make: Callable[[dict[str, Any]], Format]
    """Takes what a file says of itself, where its format has room for that: experiment, name and spec."""


class Csv:
    """Comma-separated text with a header line; values that are not finite read `nan`, `inf` and `-inf`."""

    def __init__(self) -> None:
        self._header = True
        self._schema = pa.schema([])

    def begin(self, schema: pa.Schema) -> None:
        self._schema = schema

    def add(self, table: pa.Table) -> bytes:
        sink = io.BytesIO()
        options = pyarrow.csv.WriteOptions(include_header=self._header, quoting_style="needed")
        pyarrow.csv.write_csv(table, sink, options)
        self._header = False
        return sink.getvalue()

    def end(self) -> bytes:
        return self.add(self._schema.empty_table()) if self._header else b""


class Parquet:
    """One row group a table. The file's metadata carries `description` as JSON under `adadim`."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._sink = _Pieces()
        self._description = json.dumps(description)
        self._writer: Any = None

    def begin(self, schema: pa.Schema) -> None:
        schema = schema.with_metadata({"adadim": self._description})
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, schema, compression="zstd", use_dictionary=texts)

    def add(self, table: pa.Table) -> bytes:
        rows = max(len(table), 1)
        self._writer.write_table(table.replace_schema_metadata(self._writer.schema.metadata), row_group_size=rows)
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


FORMATS = {
    "csv": Kind("text/csv; charset=utf-8", lambda _: Csv()),
    "parquet": Kind("application/vnd.apache.parquet", Parquet),
}
"""Name, which ends the file's name too, to format."""
