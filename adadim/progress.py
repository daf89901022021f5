"""The progress of an experiment while one waits for it: a bar in a terminal or a notebook, lines in a pipe."""

import contextlib
import html
import sys
from collections.abc import Callable, Iterator

from adadim.following import Following
from adadim_core.terminal import terminal_text

_STEP = 0.1
"""Of the whole, between two lines in a pipe."""

Show = Callable[[Following], None]


@contextlib.contextmanager
def shown(following: Following) -> Iterator[Show]:
    """A function that shows the progress anew, in the way that fits where this runs."""
    if _in_notebook():
        show: Show = _in_a_cell()
        show(following)
        yield show
    elif sys.stdout.isatty():
        with _on_terminal() as show:
            show(following)
            yield show
    else:
        show = _as_lines()
        show(following)
        yield show


def words(following: Following) -> str:
    """How far it is, as "experiment 7 (sweep) running: 2 running, 5 succeeded, 1 failed"."""
    experiment = following.experiment
    name = terminal_text(experiment["name"])
    return f"experiment {experiment['id']} ({name}) {experiment['state']}: {following.summary()}"


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _in_a_cell() -> Show:
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    shown_last = ""

    def show(following: Following) -> None:
        nonlocal shown_last
        bar = f'<progress value="{following.progress():.3f}" max="1" style="width: 20em"></progress>'
        text = f"{bar} {html.escape(words(following))}"
        if text != shown_last:  # hundreds of points a second change nothing here
            shown_last = text
            handle.update(HTML(text))

    return show


@contextlib.contextmanager
def _on_terminal() -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    with Progress(
        BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.description}", markup=False)
    ) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda following: progress.update(task, completed=following.progress(), description=words(following))


def _as_lines() -> Show:
    told: list[tuple[str, int]] = []

    def show(following: Following) -> None:
        now = (following.experiment["state"], int(following.progress() / _STEP))
        if not told or told[-1] != now:
            told.append(now)
            print(f"{following.progress():4.0%}  {words(following)}", flush=True)

    return show
