"""Experiments as objects: what a notebook or a script works with. The routes they call are client.py's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from adadim.answer import Answer
from adadim.client import Client, ClientError, Event
from adadim.connection import open_client
from adadim.following import Following
from adadim.progress import shown
from adadim.spec_file import spec_text
from adadim.tables import html_table, text_table
from adadim.trials import Metrics, Trial, Trials, best_of
from adadim_core.terminal import terminal_text


def connect(url: str | None = None, token: str | None = None) -> "Connection":
    """A connection to the service, found as the `adadim` command finds it.

    Args:
        url: address of the service; default: the environment variable ADADIM_URL, or else that of the service which
            `adadim serve` runs on this machine.
        token: default: ADADIM_TOKEN, or else that of the service on this machine, which goes to no other.

    Raises:
        ClientError: there is no service to be found, or no token for it.
    """
    return Connection(open_client(url, token))


class Connection:
    """One service. It may be used as a context manager, and may as well stay open as long as the process lives."""

    def __init__(self, client: Client) -> None:
        self.client = client
        """One method a route of the API, with JSON values: for what has no method here."""

    def submit(self, spec: Path | Mapping[str, Any] | str, *, priority: int = 0) -> "Experiment":
        """Submit a spec as an experiment.

        Args:
            spec: a file (Path, or a str that ends in .yaml, .yml or .json), the text of a spec in YAML, or its values.
                A relative data.path is looked for beside the file, then in the current folder.
            priority: -100 to 100; higher ones start first. Above 0 takes an admin.

        Raises:
            ClientError: the service refuses the spec, field by field, or cannot be reached.
            OSError: the file cannot be read.
        """
        return Experiment(self.client, self.client.submit(spec_text(spec, self.client.url), priority=priority))

    def plan(self, spec: Path | Mapping[str, Any] | str) -> dict[str, Any]:
        """What a spec would run: `summary`, `trials` with their values, and the `spec` with every default.

        Args:
            spec: as in `submit`.

        Raises:
            ClientError, OSError: as in `submit`.
        """
        return self.client.submit(spec_text(spec, self.client.url), dry_run=True)

    def experiment(self, number: int) -> "Experiment":
        """One experiment.

        Args:
            number: as `experiments` and the dashboard show it.

        Raises:
            ClientError: there is none of that number.
        """
        return Experiment(self.client, self.client.experiment(number))

    def experiments(self, *labels: str, limit: int = 20) -> "Experiments":
        """The newest experiments.

        Args:
            labels: those with all of these labels only, as "project=x", or "project" for any value.
            limit: how many at most, up to 200.
        """
        return Experiments(Experiment(self.client, fields) for fields in self.client.experiments(limit, labels))

    def close(self) -> None:
        """End the connection."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AdaDim service at {self.client.url}>"


class Experiment(Mapping[str, Any]):
    """One experiment: what the API said of it when it was read, and what can be asked about it.

    A mapping of the API's fields: `experiment["spec"]`, `experiment["owner"]`, ... `refresh` reads them anew.
    """

    def __init__(self, client: Client, fields: Mapping[str, Any]) -> None:
        self._client, self._fields = client, dict(fields)

    @property
    def id(self) -> int:
        """Its number."""
        return int(self["id"])

    @property
    def name(self) -> str:
        """The name in its spec."""
        return str(self["name"])

    @property
    def state(self) -> str:
        """queued, starting, running, pausing, paused, cancelling, succeeded, failed, cancelled, ..."""
        return str(self["state"])

    @property
    def url(self) -> str:
        """Its page in the dashboard."""
        return f"{self._client.url}/experiments/{self.id}"

    def refresh(self) -> Self:
        """Read it anew; returns itself. Raises ClientError."""
        self._fields = self._client.experiment(self.id)
        return self

    def wait(self, *, progress: bool = True) -> Self:
        """Wait until it has ended, across lost connections and restarts of the service.

        Interrupting it leaves the experiment running: wait again, or `cancel` it.

        Args:
            progress: show a bar in a terminal or a notebook, and lines where the output goes elsewhere.

        Returns:
            Itself, as it ended. `state` says how: it raises nothing if the experiment failed.

        Raises:
            ClientError: the service stays away for more than a minute.
        """
        following = Following(self._client, self.id)
        if not progress:
            for _ in following.changes():
                pass
        else:
            with shown(following) as show:
                for _ in following.changes():
                    show(following)
        return self.refresh()

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Follow it indefinitely: its states, those of its trials, and points as they arrive.

        Args:
            after: number of an event; those up to it are left out. 0 begins at the start, with what is still kept.

        Raises:
            ClientError: the service stays away for more than a minute.
        """
        return self._client.events(self.id, after=after)

    def trials(self) -> Trials:
        """Its trials with their last values, in the order of its plan."""
        trials = [Trial(self._client, fields) for fields in self._client.trials(self.id)]
        summary = [metric["name"] for metric in self._client.words()["metrics"] if metric["summary"]]
        return Trials(self._client, self.id, trials, list(dict.fromkeys([*summary, self["metric"]])))

    def trial(self, number: int) -> Trial:
        """One of its trials, by its number in the plan.

        Raises:
            ClientError: it has no such trial.
        """
        found = next((trial for trial in self.trials() if trial.number == number), None)
        if found is None:
            raise ClientError(f"Experiment {self.id} has no trial {number}.")
        return found

    def metrics(self, *names: str, max_points: int = 1000) -> Metrics:
        """Curves of all its trials.

        Args:
            names: metrics, as "h_r", "i_rz"; none: all of them.
            max_points: of one curve, 4 to 10,000. Longer ones are downsampled so that spikes and NaN stay visible.

        Raises:
            ClientError: the service cannot be reached.
        """
        return Metrics.of(self._client.metrics(self.id, list(names) or None, max_points))

    def answer(self) -> Answer:
        """Which configuration is best, by how much, and what is not known; also while it runs."""
        return Answer.model_validate(self._client.answer(self.id))

    def best(self) -> Trial:
        """The best trial of the best configuration.

        That is the configuration with which the answer begins, if it makes a statement, and the trial with the best
        final value of the ranking metric in it; without a statement, of all trials. That value is the best of several
        seeds: what the configuration reaches is what `answer` says.

        Raises:
            ClientError: no trial has ended with a number.
        """
        answer, trials = self.answer(), self.trials()
        leading = [c for c in answer.configurations if c.number == answer.leader]
        numbers = set(leading[0].trials) if leading else {trial.number for trial in trials}
        found = best_of([trial for trial in trials if trial.number in numbers], answer.metric, answer.mode)
        if found is None:
            raise ClientError(f"no trial of experiment {self.id} has ended with a number for {answer.metric} yet")
        return found

    def logs(self) -> str:
        """The log of its latest attempt."""
        return "".join(self._client.logs(self.id))

    def cancel(self) -> Self:
        """Ask it to end; returns itself. Raises ClientError."""
        self._client.cancel(self.id)
        return self.refresh()

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        done = f"{self['trials_done']} of {self['trial_count']} trials done"
        # What follows after an empty line are accounts of single trials, tracebacks say.
        reason = terminal_text(str(self["state_reason"] or "").partition("\n\n")[0].replace("\n", ": "))
        return f"<experiment {self.id} ({self.name}): {self.state}, {done}{f': {reason}' if reason else ''}>"

    def _repr_html_(self) -> str:
        return html_table(_HEADS, [_row(self)])


class Experiments(list[Experiment]):
    """Experiments, newest first."""

    def __repr__(self) -> str:
        return text_table(_HEADS, [_row(experiment) for experiment in self])

    def _repr_html_(self) -> str:
        return html_table(_HEADS, [_row(experiment) for experiment in self])


_HEADS = ("experiment", "name", "state", "trials done", "owner")


def _row(experiment: Experiment) -> list[str]:
    done = f"{experiment['trials_done']} of {experiment['trial_count']}"
    return [str(experiment.id), experiment.name, experiment.state, done, str(experiment["owner"])]
