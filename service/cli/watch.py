"""The live view of one experiment in a terminal, and the answer at its end."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adadim.client import Client
from adadim.following import Following
from adadim.trials import reason_of
from adadim_core.answers.document import Answer
from adadim_core.answers.terminal import render
from adadim_core.spec.metrics import short_metric_title
from adadim_core.spec.report import decode_float
from service.cli.output import brief, print_json, print_text
from service.cli.tables import Column, fitted

_COLOURS = {"ok": "green", "busy": "cyan", "bad": "red", "warn": "yellow", "idle": "yellow", "open": "dim"}
"""Of the tones that the service gives to states."""
_ATTENTION = ("busy", "bad", "warn", "idle", "ok", "open")
"""Tones in the order in which their trials are shown: what runs, then what has trouble."""
_ROWS = 20
"""Trials shown where the output has no height of its own."""
_FRAME = 6
"""Lines of a terminal beside those of trials: header, description, headings, the rest in a line, reason, prompt."""
_LABEL = 18


def watch(client: Client, experiment_id: int, console: Console, *, as_json: bool = False) -> dict[str, Any]:
    """Show an experiment until it ends; returns it as it ended. Raises ClientError."""
    following = Following(client, experiment_id)
    view = _View(client, following)
    if as_json:
        return _watch_as_json(following)
    if console.is_terminal:
        # Drawn when it is time to, not with each of what may be hundreds of events a second.
        with Live(
            get_renderable=lambda: view.render(console.width, console.height),
            console=console,
            refresh_per_second=8,
            transient=True,
        ):
            for _ in following.changes():
                pass
    else:  # a log file or a pipe: one line for what changed
        for line in view.lines(console.width):
            print_text(line, indent="  ")
    console.print(view.render(console.width, None))
    if following.has_ended():
        console.print()
        print_answer(client, experiment_id, console)
    return following.experiment


def print_answer(client: Client, experiment_id: int, console: Console) -> None:
    """Show an experiment's answer: the table by configuration and the statement. Raises ClientError."""
    answer = Answer.model_validate(client.answer(experiment_id))
    console.print(render(answer, console.width))


def _watch_as_json(following: Following) -> dict[str, Any]:
    """One line a change: the experiment or a trial, as the API shows it."""
    print_json({"experiment": following.experiment}, in_one_line=True)
    for change in following.changes():
        for number in change.trials:
            print_json({"trial": following.trials[number]}, in_one_line=True)
        if change.experiment:
            print_json({"experiment": following.experiment}, in_one_line=True)
    return following.experiment


class _View:
    """How an experiment and its trials look."""

    def __init__(self, client: Client, following: Following) -> None:
        self._following = following
        words = client.words()
        self._tones = {
            state["name"]: state["tone"] for kind in ("trial_states", "experiment_states") for state in words[kind]
        }
        summary = [metric["name"] for metric in words["metrics"] if metric["summary"]]
        ranking = following.experiment["metric"]
        titles = {metric["name"]: metric["title"] for metric in words["metrics"]}
        self._metrics = {name: titles.get(name, name) for name in dict.fromkeys([*summary, ranking])}
        kept = dict.fromkeys([ranking, *summary])
        self._importance = {name: place for place, name in enumerate(kept)}
        """Of each metric its place among those that are kept where there is little room."""

    def lines(self, width: int) -> Iterator[str]:
        """What happens, a line each, until the experiment has ended."""
        if self._following.has_ended():
            return
        yield self._state()
        told: dict[int, str] = {}
        for change in self._following.changes():
            for number in change.trials:
                line = self._line(number, width)
                if line != told.get(number):
                    told[number] = line
                    yield line
            if change.experiment:
                yield self._state()

    def render(self, width: int, height: int | None) -> Group:
        """The whole view, a line a trial; those beyond the height are counted.

        Args:
            width: columns of a line.
            height: lines of the terminal; None: it is no terminal, or the view stays above the prompt.
        """
        experiment, trials = self._following.experiment, self._ordered()
        most = _ROWS if height is None else max(height - _FRAME, 1)
        shown, rest = trials[:most], trials[most:]
        parts: list[Any] = [self._head(width)]
        if description := experiment.get("spec", {}).get("description"):
            parts.append(Text(description, style="dim", no_wrap=True, overflow="ellipsis"))
        parts.append(self._table(shown, width))
        if rest:
            counts = Counter(trial["state"] for trial in rest)
            parts.append(
                Text(f"and {len(rest)} more: " + ", ".join(f"{n} {s}" for s, n in counts.items()), style="dim")
            )
        if reason := brief(experiment["state_reason"] or ""):
            in_one_line = height is not None
            text = " ".join(reason.splitlines()) if in_one_line else reason
            parts.append(Text(text, style="yellow", no_wrap=in_one_line, overflow="ellipsis"))
        return Group(*parts)

    def _head(self, width: int) -> Any:
        experiment, state = self._following.experiment, self._following.experiment["state"]
        rest = f"#{experiment['id']}  {state}  {self._following.summary()}"
        head = Text.assemble(
            (_cut(experiment["name"], max(width - cell_len(rest) - 1, _LABEL)), "bold"),
            f" #{experiment['id']}  ",
            (state, self._colour(state)),
            f"  {self._following.summary()}",
            no_wrap=True,
            overflow="ellipsis",
        )
        room = width - cell_len(head.plain) - 8
        if self._following.has_ended() or room < 10:
            return head
        line = Table.grid(padding=(0, 2, 0, 0))
        share = self._following.progress()
        line.add_row(head, ProgressBar(total=1.0, completed=share, width=min(room, 30)), f"{share:.0%}")
        return line

    def _ordered(self) -> list[dict[str, Any]]:
        order = {tone: place for place, tone in enumerate(_ATTENTION)}
        trials = list(self._following.trials.values())  # at once: events change it while this is drawn
        return sorted(trials, key=lambda t: (order.get(self._tones.get(t["state"], ""), len(order)), t["number"]))

    def _table(self, trials: list[dict[str, Any]], width: int) -> Table:
        why = any(reason_of(trial) for trial in trials)
        columns = [
            Column("trial", "right"),
            Column("label", shrinks_to=_LABEL),
            Column("state"),
            Column("epoch", "right"),
            *(Column(short_metric_title(name), "right", dropped=1 + self._importance[name]) for name in self._metrics),
            *([Column("", shrinks_to=28, dropped=1)] if why else []),
        ]
        rows: list[list[str | Text]] = [
            [
                str(trial["number"]),
                trial["label"],
                Text(trial["state"], style=self._colour(trial["state"])),
                _epochs(trial["epoch"], trial),
                *(_value(trial["latest"].get(name)) for name in self._metrics),
                *([reason_of(trial)] if why else []),
            ]
            for trial in trials
        ]
        return fitted(columns, rows, width)

    def _state(self) -> str:
        number, state, reason = (self._following.experiment[name] for name in ("id", "state", "state_reason"))
        resumes = state == "paused" and "resume" in self._following.experiment["actions"]
        goes_on = f"; `adadim resume {number}` goes on" if resumes else ""
        return f"experiment {number} {state}" + (f": {brief(reason)}" if reason else "") + goes_on

    def _line(self, number: int, width: int) -> str:
        """One trial in one line, as much as fits: its label is cut last but for the values that matter most."""
        trial = self._following.trials[number]
        running = trial["state"] == "running"
        epoch = self._following.epochs.get(number, 0) if running else trial["epoch"]
        before, after = f"trial {number} (", f")  {trial['state']}  {_epochs(epoch, trial)}"
        if why := reason_of(trial):
            after += f"  {why}"
        label = str(trial["label"])
        room = width - cell_len(before) - cell_len(after) - min(cell_len(label), _LABEL)
        kept = set()
        measured = [name for name in self._metrics if name in trial["latest"]]
        for name in sorted(measured, key=self._importance.__getitem__):
            room -= cell_len(self._part(trial, name))
            if room < 0:
                break
            kept.add(name)
        after += "".join(self._part(trial, name) for name in measured if name in kept)
        line = before + _cut(label, max(width - cell_len(before) - cell_len(after), _LABEL)) + after
        return _cut(line, width)

    def _part(self, trial: dict[str, Any], name: str) -> str:
        return f"  {short_metric_title(name)} {_value(trial['latest'].get(name))}"

    def _colour(self, state: str) -> str:
        return _COLOURS.get(self._tones.get(state, ""), "")


def _epochs(epoch: int, trial: dict[str, Any]) -> str:
    return f"{epoch}/{trial['epochs']}" if trial["epochs"] else "-"


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _value(value: Any) -> str:
    number = decode_float(value)
    if number is None:
        return "-"
    return f"{number:.3f}" if math.isfinite(number) else str(value)
