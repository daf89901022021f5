"""A file of a run's folder of 64 KiB costs under 50 ms of a processor and 20 MB, whatever is in it, or is refused."""

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from adadim_core.report.run_folder import NoRunError, material_of_run
from tests.cost_of_reading import KILOBYTES, costs, mutations, unbounded
from tests.readers import RESULTS
from workers.storage.folder import read_json

SIZE = KILOBYTES * 1024
LINE = b'{"trial":0,"step":1,"epoch":1.0,"time":1000.0,"values":{"h_r":1.0,"loss":2.0}}\n'


def fill(piece: bytes, begin: bytes = b"", end: bytes = b"", between: bytes = b"") -> bytes:
    return begin + between.join([piece] * ((SIZE - len(begin) - len(end)) // (len(piece) + len(between)))) + end


def points_of(rows: int, **options: object) -> bytes:
    """A points.parquet of one point so many times."""
    one = {
        "trial": (0, pa.int32()),
        "metric": ("h_r", pa.string()),
        "step": (1, pa.int64()),
        "epoch": (1.0, pa.float32()),
    }
    one |= {"time": (1.0, pa.float64()), "value": (1.0, pa.float64())}
    columns = {name: pa.repeat(pa.scalar(value, kind), rows) for name, (value, kind) in one.items()}
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def trial(number: int) -> dict[str, object]:
    params, metrics = {"training.lr": number}, {"h_r": number}
    return {"number": number, "params": params, "state": "succeeded", "epoch": 1, "epochs": 1, "metrics": metrics}


SPOOL = {
    "points": fill(LINE),
    "one long line": fill(b"[", b'{"trial":'),
    "deep lines": fill(b"[" * 500 + b"\n"),
    "empty lines": fill(b"\n"),
    "short lines": fill(b"{}\n"),
    "infinite steps": fill(LINE.replace(b'"step":1', b'"step":1e999')),
    "huge numbers": fill(LINE.replace(b'"step":1', b'"step":' + b"9" * 4_000)),
    "many metrics": fill(b'"m":1', b'{"trial":0,"step":1,"epoch":1,"time":1,"values":{', b"}}\n", b","),
    "zeros": bytes(SIZE),
    **mutations(LINE * 20, 60, 1),
}
JSON = {
    "deep lists": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "deep maps": fill(b'{"a":'),
    "empty maps": fill(b"{}", b"[", b"]", b","),
    "trials": fill(b"{}", b'{"trials":[', b"]}", b","),
    "metrics": fill(b'"a":1', b'{"trials":[{"metrics":{', b"}}]}", b","),
    "huge numbers": fill(b"9" * 4_000, b"[", b"]", b","),
    "one huge number": fill(b"9"),
    "configurations": json.dumps({"name": "a", "trials": [trial(number) for number in range(500)]}).encode(),
    **mutations(RESULTS.encode(), 60, 2),
}
PARQUET = {
    "a point repeated": points_of(3_000_000),
    "a point repeated, in groups": points_of(60_000, row_group_size=1_000),
    "compressed": points_of(500_000, compression="zstd", use_dictionary=False),
    **mutations(points_of(20), 60, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "ordinary", "inputs"),
    [
        ("spool", LINE, SPOOL),
        ("stored_json", b"{}", JSON),
        ("run_folder", RESULTS.encode(), JSON),
        ("run_points", points_of(20), PARQUET),
    ],
    ids=["spool", "stored JSON", "results", "points"],
)
def test_a_file_of_a_run_costs_little_or_is_refused(
    tmp_path: Path, reader: str, ordinary: bytes, inputs: dict[str, bytes]
) -> None:
    assert not unbounded(costs(f"tests.readers:{reader}", ordinary, inputs, tmp_path))


def test_a_fifo_or_a_link_among_the_results_is_not_waited_for_nor_followed(tmp_path: Path) -> None:
    """Opening a FIFO waits for its writer; a link may lead to any file of whoever reads."""
    secret = tmp_path / "secret.json"
    secret.write_text(RESULTS)
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to(secret))):
        folder = tmp_path / f"run {number}"
        folder.mkdir()
        make(folder / "results.json")  # type: ignore[operator]
        (folder / "spec.json").write_text('{"name": "a"}')
        with pytest.raises(NoRunError, match=r"holds no results\.json"):
            material_of_run(folder)
        assert read_json(folder / "results.json") is None
