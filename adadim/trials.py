"""Trials and their curves in a notebook."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadim.client import Client
from adadim.encoders import load
from adadim.tables import Columns, html_table, require, text_table
from adadim_core.spec.report import decode_float
from adadim_core.storage.atomic import write_atomically
from adadim_core.terminal import terminal_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from adadim_core.models import Encoder


class Trial(Mapping[str, Any]):
    """One trial, as it was when it was read.

    A mapping of what the API says of it: `trial["params"]`, `trial["latest"]["h_r"]`, ...
    """

    def __init__(self, client: Client, fields: Mapping[str, Any]) -> None:
        self._client = client
        latest = {name: decode_float(value) for name, value in fields["latest"].items()}
        self._fields = {**fields, "latest": latest}

    @property
    def number(self) -> int:
        """Position in the plan of its experiment, from 0."""
        return int(self["number"])

    @property
    def label(self) -> str:
        """It in words, as "adaptive, seed 3"."""
        return str(self["label"])

    @property
    def state(self) -> str:
        """pending, running, succeeded, stopped, interrupted or failed."""
        return str(self["state"])

    def metrics(self, *names: str, max_points: int = 1000) -> "Metrics":
        """Its curves; see `Experiment.metrics`."""
        return Metrics.of(self._client.trial_metrics(self["id"], list(names) or None, max_points))

    def logs(self) -> str:
        """What it printed."""
        return "".join(self._client.trial_logs(self["id"]))

    def download_encoder(self, path: str | Path | None = None) -> Path:
        """Write its exported encoder, one file that `adadim_core.load_encoder` takes.

        Args:
            path: the file; default: experiment-N-trial-M-encoder.safetensors in the current folder.

        Returns:
            The file.

        Raises:
            ClientError: there is no encoder: only a trial that finishes exports one.
            OSError: the file cannot be written.
        """
        name = f"experiment-{self['experiment_id']}-trial-{self.number}-encoder.safetensors"
        file = Path(path) if path is not None else Path(name)
        # A transfer that breaks off leaves no file that looks whole.
        write_atomically(file, lambda opened: opened.writelines(self._client.encoder(self["id"])))
        return file

    def encoder(self, *, device: str = "cpu") -> "Encoder":
        """Its encoder as a torch module: images (N, C, H, W), uint8 or floating point in [0, 1], to R (N, D_r).

        It is in eval mode, its parameters without gradient.

        Raises:
            ClientError: there is no encoder, or torch is not installed (`download_encoder` does without).
        """
        return load(self.download_encoder, device)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        why = f": {terminal_text(reason_of(self))}" if reason_of(self) else ""
        which = f"trial {self.number} of experiment {self['experiment_id']}"
        return f"<{which}: {terminal_text(self.label)}, {self.state}{why}>"

    def _repr_html_(self) -> str:
        latest = [(name, f"{value:.4g}") for name, value in self["latest"].items()]
        return html_table(("metric", "last value"), latest, caption=repr(self)[1:-1])


class Trials(list[Trial]):
    """The trials of an experiment in the order of its plan."""

    def __init__(self, client: Client, experiment_id: int, trials: list[Trial], shown: list[str]) -> None:
        super().__init__(trials)
        self._client, self._id, self._shown = client, experiment_id, shown

    def to_arrow(self) -> "pa.Table":
        """One row a trial, as `adadim export --rows trials` has them, read anew.

        Columns: trial, configuration, configuration_label, seed, one for every swept field by its dotted path, state,
        epochs, last and best values, duration.

        Raises:
            ClientError: pyarrow is not installed, or the service cannot be reached.
        """
        require("pyarrow")
        import pyarrow as pa
        import pyarrow.parquet as pq

        raw = b"".join(self._client.export(self._id, "parquet", "trials"))
        table: pa.Table = pq.read_table(pa.BufferReader(raw))
        return table

    def to_pandas(self) -> "pd.DataFrame":
        """The same as a data frame.

        Raises:
            ClientError: pandas or pyarrow is not installed, or the service cannot be reached.
        """
        require("pandas", "pyarrow")
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __repr__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        shown = [name for name in self._shown if any(name in trial["latest"] for trial in self)]
        rows = [
            [
                str(trial.number),
                trial.label,
                trial.state,
                f"{trial['epoch']}/{trial['epochs']}" if trial["epochs"] else "-",
                *(f"{trial['latest'][name]:.4g}" if name in trial["latest"] else "-" for name in shown),
            ]
            for trial in self
        ]
        return ["trial", "label", "state", "epoch", *shown], rows


class Series:
    """One metric of one trial over training."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.trial: int = fields["trial"]
        """The trial's number within its experiment."""
        self.metric: str = fields["metric"]
        self.steps: list[int] = fields["steps"]
        self.epochs: list[float] = [decode_float(value) for value in fields["epochs"]]
        self.times: list[float] = [decode_float(value) for value in fields["times"]]
        """Unix time in seconds."""
        self.values: list[float] = [decode_float(value) for value in fields["values"]]
        self.total: int = fields["total"]
        """Points stored; more than are here if the series was downsampled."""

    def __repr__(self) -> str:
        return f"<{self.metric} of trial {self.trial}: {len(self.steps)} of {self.total} points>"


class Metrics(Columns, list[Series]):
    """Curves of an experiment's trials, by trial and metric.

    As a table they have a row for each point: trial, metric, step, epoch, time (Unix, in seconds) and value.
    """

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Metrics":
        """Those of an answer of the API."""
        return cls(Series(fields) for fields in found["series"])

    def __repr__(self) -> str:
        trials, names = {series.trial for series in self}, dict.fromkeys(series.metric for series in self)
        points = sum(len(series.steps) for series in self)
        return f"<{points} points of {', '.join(names) or 'no metric'}, {len(trials)} trials>"

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "trial": [series.trial for series in self for _ in series.steps],
            "metric": [series.metric for series in self for _ in series.steps],
            "step": [step for series in self for step in series.steps],
            "epoch": [epoch for series in self for epoch in series.epochs],
            "time": [time for series in self for time in series.times],
            "value": [value for series in self for value in series.values],
        }


def best_of(trials: list[Trial], metric: str, mode: str) -> Trial | None:
    """The trial that ended with the best value of a metric, among those that trained to their end."""
    found = [trial for trial in trials if trial.state == "succeeded" and is_number(trial["latest"].get(metric))]
    return (max if mode == "max" else min)(found, key=lambda trial: trial["latest"][metric], default=None)


def reason_of(trial: Mapping[str, Any]) -> str:
    """What ended a trial early, in a line; the whole of an error is in its log."""
    return str(trial["reason"] or (trial["error"] or "").partition("\n")[0])


def is_number(value: Any) -> bool:
    """Whether a value is there and finite."""
    return isinstance(value, int | float) and abs(value) < float("inf")
