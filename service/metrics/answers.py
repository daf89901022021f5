"""Points as JSON, Arrow and live events: the forms in which they leave the service.

Numbers go from arrays to text without a Python object for each; non-finite ones become JsonFloat's strings.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from sqlalchemy import Row

from adadim_core.spec.report import encode_float
from service.metrics.points import Points, split_key
from service.metrics.reading import Found

ARROW_MEDIA_TYPE = "application/vnd.apache.arrow.stream"


def series_json(experiment_id: int, seq: int, found: Found) -> bytes:
    """`MetricsRead` as JSON."""
    series = [{**one, "total": found.totals[key]} for key, one in _columns(found.points, found.names)]
    return _dump({"experiment_id": experiment_id, "seq": seq, "series": series})


def series_arrow(experiment_id: int, seq: int, found: Found) -> bytes:
    """One record batch of `arrow_columns`; experiment_id and seq are in its metadata."""
    metadata = {"experiment_id": str(experiment_id), "seq": str(seq)}
    batch = arrow_columns(found.points, found.names).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    answer: bytes = sink.getvalue().to_pybytes()
    return answer


def arrow_columns(points: Points, names: dict[int, str]) -> pa.RecordBatch:
    """Trial, metric, step, epoch, time and value of points; metrics as a dictionary, which must hold all of theirs."""
    trial, metric = split_key(points.series)  # type: ignore[arg-type]  # arrays as well as numbers
    ids = sorted(names)
    labels = pa.DictionaryArray.from_arrays(
        pa.array(np.searchsorted(ids, metric).astype(np.int32)), pa.array([names[k] for k in ids], pa.string())
    )
    return pa.record_batch(
        {
            "trial": pa.array(np.asarray(trial, np.int32)),
            "metric": labels,
            "step": pa.array(points.step),
            "epoch": pa.array(points.epoch),
            "time": pa.array(points.time),
            "value": pa.array(points.value),
        }
    )


def last_json(experiment_id: int, seq: int, trials: Sequence[Row[Any]], wanted: Sequence[str] | None) -> bytes:
    """`LastRead` as JSON."""
    names = wanted if wanted is not None else sorted({name for trial in trials for name in trial.latest})
    entries = {name: [trial.latest.get(name) for trial in trials] for name in names}
    return _dump(
        {
            "experiment_id": experiment_id,
            "seq": seq,
            "trials": [trial.number for trial in trials],
            "metrics": {name: [entry and _last_value(entry) for entry in column] for name, column in entries.items()},
            "steps": {name: [entry and entry["step"] for entry in column] for name, column in entries.items()},
        }
    )


def _last_value(entry: dict[str, Any]) -> float | str | None:
    """PostgreSQL writes a large float without a point: it comes back as an integer that JSON's readers cannot hold."""
    return encode_float(float(entry["value"]))


def points_event(points: Points, names: dict[int, str], wanted: frozenset[str] | None) -> bytes:
    """The data of a `points` event, in the order reported; of some metrics only where `wanted` says so."""
    return _dump({"series": [one for _, one in _columns(points, names) if wanted is None or one["metric"] in wanted]})


def _columns(points: Points, names: dict[int, str]) -> list[tuple[int, dict[str, Any]]]:
    finite = bool(np.isfinite(points.value).all())
    bounds = points.runs().tolist()
    found = []
    for start, end in pairwise(bounds):
        key = int(points.series[start])
        number, metric_id = split_key(key)
        found.append(
            (
                key,
                {
                    "trial": number,
                    "metric": names[metric_id],
                    "steps": points.step[start:end],
                    "epochs": points.epoch[start:end],
                    "times": points.time[start:end],
                    "values": points.value[start:end] if finite else _strings(points.value[start:end]),
                },
            )
        )
    return found


def _strings(values: Any) -> Any:
    return values if np.isfinite(values).all() else [encode_float(value) for value in values.tolist()]


def _dump(answer: dict[str, Any]) -> bytes:
    # Arrays of numpy must be in one piece; slices of columns are.
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
