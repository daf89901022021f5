"""The live view of one experiment in a terminal, and the answer at its end."""

import math
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adadim.client import Client
from adadim_core.answers.document import Answer
from adadim_core.answers.terminal import WIDTH, render
from adadim_core.spec.report import decode_float
from service.cli.output import brief

_COLOURS = {"ok": "green", "busy": "cyan", "bad": "red", "warn": "yellow", "idle": "yellow", "open": "dim"}
"""Of the tones that the service gives to states."""


def watch(client: Client, experiment_id: int, console: Console) -> dict[str, Any]:
    """Show an experiment until it ends; returns it as it ended. Raises ClientError."""
    view = _View(client, experiment_id)
    if console.is_terminal:
        with Live(view.render(), console=console, refresh_per_second=8, transient=True) as live:
            for _ in view.follow():
                live.update(view.render())
    else:  # a log file or a pipe: one line for what changed
        for line in view.follow():
            if line:
                console.print(line, highlight=False)
    console.print(view.render())
    if view.has_ended():
        console.print()
        print_answer(client, experiment_id, console)
    return view.experiment


def print_answer(client: Client, experiment_id: int, console: Console) -> None:
    """Show an experiment's answer: the table by configuration and the statement. Raises ClientError."""
    width = console.width if console.is_terminal else max(console.width, WIDTH)
    answer = Answer.model_validate(client.answer(experiment_id))
    console.print(render(answer, width), highlight=False, width=width, soft_wrap=not console.is_terminal)


class _View:
    """The state of an experiment and its trials, kept up to date by events."""

    def __init__(self, client: Client, experiment_id: int) -> None:
        self._client = client
        # Read first: whatever happens from here on comes with the stream.
        measured = client.metrics(experiment_id, ["h_r"], max_points=10)
        self._seq = measured["seq"]
        self._told = {series["trial"]: math.floor(series["epochs"][-1]) for series in measured["series"]}
        """Of each trial the epoch last told: that of an H(R), so that both go together."""
        self._steps: dict[tuple[int, str], int] = {}
        """Of each trial and metric the step of the value shown."""
        detail = client.experiment(experiment_id)
        self._words = client.words()
        self._tones = {
            state["name"]: state["tone"]
            for kind in ("trial_states", "experiment_states") for state in self._words[kind]
        }  # fmt: skip
        self.experiment = detail
        self._trials = {trial["number"]: trial for trial in client.trials(experiment_id)}
        titles = {metric["name"]: metric["title"] for metric in self._words["metrics"]}
        shown = [metric["name"] for metric in self._words["metrics"] if metric["summary"]]
        self._columns = {name: titles.get(name, name) for name in dict.fromkeys([*shown, detail["metric"]])}

    def has_ended(self) -> bool:
        """Nothing more happens to the experiment by itself."""
        states = self._words["experiment_states"]
        return any(state["ended"] for state in states if state["name"] == self.experiment["state"])

    def follow(self) -> Iterator[str | None]:
        """Apply events until the experiment has ended; yields a line for a log when something notable happened."""
        if self.has_ended():
            return
        yield self._state()
        for event in self._client.events(self.experiment["id"], after=self._seq):
            line = None
            if event.kind == "experiment":
                before = self.experiment["state"], self.experiment["state_reason"]
                self.experiment |= event.data
                if before != (event.data["state"], event.data["state_reason"]):
                    line = self._state()
            elif event.kind == "trial":
                line = self._apply_trial(event.data)
            elif event.kind == "points":
                line = self._apply_points(event.data["series"])
            else:  # reset: points were missed, their last values are with the trials
                self._trials = {t["number"]: t for t in self._client.trials(self.experiment["id"])}
            yield line
            if self.has_ended():
                # The stream says what happened in between; the last word is the service's present state.
                self.experiment |= self._client.experiment(self.experiment["id"])
                self._trials = {t["number"]: t for t in self._client.trials(self.experiment["id"])}
                return

    def _state(self) -> str:
        number, state, reason = (self.experiment[name] for name in ("id", "state", "state_reason"))
        resumes = state == "paused" and "resume" in self.experiment["actions"]
        goes_on = f"; `adadim resume {number}` goes on" if resumes else ""
        return f"experiment {number} {state}" + (f": {brief(reason)}" if reason else "") + goes_on

    def _apply_trial(self, trial: dict[str, Any]) -> str | None:
        before = self._trials.get(trial["number"])
        # A stream read from its start repeats old states; values already shown are newer than those it carries.
        values = before["latest"] if before else {}
        self._trials[trial["number"]] = trial | {"latest": trial["latest"] | values}
        if before is not None and before["state"] == trial["state"]:
            return None  # its epochs are told with what was measured in them
        running = trial["state"] == "running"
        return self._line(trial["number"], self._told.get(trial["number"], 0) if running else trial["epoch"])

    def _apply_points(self, series: list[dict[str, Any]]) -> str | None:
        completed: dict[int, int] = {}
        for part in series:
            number, metric, step = part["trial"], part["metric"], part["steps"][-1]
            if step < self._steps.get((number, metric), 0):  # from the spool of an earlier attempt
                continue
            self._steps[number, metric] = step
            self._trials[number]["latest"][metric] = part["values"][-1]
            epoch = math.floor(part["epochs"][-1])
            if metric == "h_r" and epoch > self._told.get(number, 0):
                completed[number] = self._told[number] = epoch
        return "\n".join(self._line(number, epoch) for number, epoch in sorted(completed.items())) or None

    def _line(self, number: int, epoch: int) -> str:
        trial = self._trials[number]
        shown = "  ".join(f"{head} {_value(trial['latest'].get(name))}" for name, head in self._columns.items())
        epochs = f"{epoch}/{trial['epochs']}" if trial["epochs"] else "-"
        line = f"trial {number} ({trial['label']})  {trial['state']}  epoch {epochs}  {shown}"
        return f"{line}  ({why})" if (why := _why(trial)) else line

    def render(self) -> Group:
        """The whole view."""
        experiment = self.experiment
        head = Text.assemble(
            (f"{experiment['name']} ", "bold"),
            f"#{experiment['id']}  ",
            (experiment["state"], self._colour(experiment["state"])),
            f"  {experiment['trials_done']} of {experiment['trial_count']} trials done",
        )
        parts: list[Any] = [head, self._table()]
        if experiment["state_reason"]:
            parts.append(Text(brief(experiment["state_reason"]), style="yellow"))
        return Group(*parts)

    def _colour(self, state: str) -> str:
        return _COLOURS.get(self._tones.get(state, ""), "")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("weighting")
        table.add_column("state", no_wrap=True)
        table.add_column("epoch", justify="right", no_wrap=True)
        table.add_column("", width=16)
        for head in self._columns.values():
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("")
        for number, trial in sorted(self._trials.items()):
            table.add_row(
                str(number),
                trial["label"],
                Text(trial["state"], style=self._colour(trial["state"])),
                f"{trial['epoch']}/{trial['epochs']}" if trial["epochs"] else "-",
                ProgressBar(total=trial["epochs"] or 1, completed=trial["epoch"], width=16),
                *(_value(trial["latest"].get(name)) for name in self._columns),
                _why(trial),
            )
        return table


def _why(trial: dict[str, Any]) -> str:
    """What ended a trial early, in a line. The whole of an error is in its log."""
    why = str(trial["reason"] or (trial["error"] or "").partition("\n")[0])
    return why if len(why) <= 120 else f"{why[:116]} ..."


def _value(value: Any) -> str:
    number = decode_float(value)
    if number is None:
        return "-"
    return f"{number:.3f}" if math.isfinite(number) else str(value)
