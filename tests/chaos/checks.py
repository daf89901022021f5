"""What must hold when the killing is over. Each check says what it found wrong; together they are the promise."""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import torch

from adadim_core import Trainer
from adadim_core.checkpoint import read_checkpoint
from adadim_core.spec import parse_spec, plan_trials
from tests.chaos.experiments import Planned, User
from tests.chaos.parts import Lab, wait_for

MAX_POINTS = 10_000


def reference(spec_text: str) -> list[dict[str, list[int]]]:
    """The steps of every metric of every trial of an undisturbed run."""
    spec = parse_spec(spec_text)
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of networks as small as these more make much less of a machine that is busy
    for plan in plan_trials(spec):
        steps: dict[str, list[int]] = defaultdict(list)

        def report(step: int, epoch: float, values: Any, steps: dict[str, list[int]] = steps) -> None:
            for name in values:
                steps[name].append(step)

        Trainer(spec.with_params(plan.params), report=report).fit()
        found.append(steps)
    torch.set_num_threads(threads)
    return found


def series_problems(user: User, experiment: Planned, expected: list[dict[str, list[int]]]) -> list[str]:
    """Gaps and duplicates in the points of an experiment, and checkpoints or results that do not fit them."""
    names = sorted({name for trial in expected for name in trial})
    answer = user.ask(lambda client: client.metrics(experiment.id, names, max_points=MAX_POINTS))
    found = {(part["trial"], part["metric"]): part["steps"] for part in answer["series"]}
    problems = []
    for trial, metrics in enumerate(expected):
        for name, steps in metrics.items():
            got = found.get((trial, name), [])
            if len(got) != len(set(got)):
                problems.append(f"{experiment.name}: trial {trial} {name} has duplicates")
            if experiment.end == "succeeded" and got != steps:
                missing, extra = sorted(set(steps) - set(got)), sorted(set(got) - set(steps))
                problems.append(f"{experiment.name}: trial {trial} {name} lacks {missing[:9]}, has besides {extra[:9]}")
            if not set(got) <= set(steps):
                problems.append(f"{experiment.name}: trial {trial} {name} has steps nobody measures")
    return problems


def checkpoint_problems(
    lab: Lab, key: str, user: User, experiment: Planned, epochs: int, expected: list[dict[str, list[int]]]
) -> list[str]:
    """Where the trainer says it is, against where the service says it is.

    A trial that succeeded has its last step reported, and no checkpoint any more. One that was stopped has saved what
    it reported, and reported what it saved. One that was killed has reported up to its last checkpoint at least.
    """
    folder = lab.storage / f"adadim-{key}-{experiment.id}"
    if experiment.end == "gone":
        return [f"{experiment.name}: {folder} is still there"] if folder.exists() else []
    problems = []
    trials = user.ask(lambda client: client.trials(experiment.id))
    answer = user.ask(lambda client: client.metrics(experiment.id, ["loss"], max_points=MAX_POINTS))
    last = {part["trial"]: part["steps"][-1] for part in answer["series"] if part["steps"]}
    for trial in trials:
        number = trial["number"]
        place = folder / "trials" / f"{number:04d}"
        if experiment.end == "succeeded":
            result = json.loads((place / "result.json").read_text())
            if (result["epoch"], trial["epoch"], trial["state"]) != (epochs, epochs, "succeeded"):
                problems.append(f"{experiment.name}: trial {number} stopped at epoch {result['epoch']}: {trial}")
            if last.get(number) != expected[number]["loss"][-1]:
                problems.append(f"{experiment.name}: trial {number} ended, and reported step {last.get(number)} last")
        elif (place / "checkpoint.pt").exists():
            problems += [
                f"{experiment.name}: trial {number} {problem}"
                for problem in stopped_trial_problems(folder, number, expected[number]["loss"], last.get(number, 0))
            ]
    return problems


def stopped_trial_problems(folder: Path, number: int, due: list[int], reported: int) -> list[str]:
    """The checkpoint of a trial that did not finish against what it measured and what the service has.

    Args:
        due: the steps at which the loss is reported.
        reported: the last of them that the service has.
    """
    path = folder / "trials" / f"{number:04d}" / "checkpoint.pt"
    saved_at, saved = path.stat().st_mtime, read_checkpoint(path, "cpu")["step"]
    spools = list(folder.glob(f"points/{number:04d}-*.jsonl"))
    measured = [(at, step) for spool in spools for at, step in _measured(spool)]
    last_due = max((step for step in due if step <= saved), default=0)  # type: ignore[operator]
    furthest = max((step for _, step in measured), default=0)
    problems = []
    if furthest < last_due:
        problems.append(f"saved step {saved}, and has measured {furthest} last")
    latest_at, latest = max(measured, default=(0.0, 0))
    # To save is the last thing a process does that is stopped; one that is killed may have measured more since.
    if latest_at <= saved_at and latest != last_due:
        problems.append(f"saved step {saved}, where it should have reported {last_due} last, and reported {latest}")
    if all(_is_delivered(spool) for spool in spools) and reported != furthest:
        problems.append(f"has measured {furthest} last, and the service has {reported}")
    return problems


async def overlap_problems(lab: Lab) -> list[str]:
    """Two attempts of one experiment at once, by the reports each made with its own token, and by their spools."""
    connection = await asyncpg.connect(lab.postgres.url)
    rows = await connection.fetch(
        "SELECT id, experiment_id, number, started_at, heartbeat_at, refused_at FROM attempts ORDER BY 2, 3"
    )
    await connection.close()
    problems = []
    for _, group in itertools.groupby(rows, key=lambda row: row["experiment_id"]):
        began = [row for row in group if row["started_at"] is not None]
        for before, after in itertools.pairwise(began):
            last = max(filter(None, (before["heartbeat_at"], before["refused_at"])))
            if last >= after["started_at"]:
                problems.append(
                    f"experiment {after['experiment_id']}: attempt {before['number']} reported at {last}, "
                    f"attempt {after['number']} from {after['started_at']} on"
                )
    return problems + spool_problems(lab)


def spool_problems(lab: Lab) -> list[str]:
    """The times of the points themselves: those of a later attempt come after those of an earlier one."""
    problems = []
    for folder in lab.storage.glob("adadim-*"):
        spans: dict[int, list[float]] = defaultdict(list)
        for spool in folder.glob("points/*.jsonl"):
            attempt = int(spool.stem.split("-")[1])
            spans[attempt] += [at for at, _ in _measured(spool)]
        for before, after in itertools.pairwise(sorted(attempt for attempt, times in spans.items() if times)):
            if max(spans[before]) > min(spans[after]):
                seconds = max(spans[before]) - min(spans[after])
                problems.append(f"{folder.name}: attempts {before} and {after} measured at once for {seconds:.1f} s")
    return problems


def _measured(spool: Path) -> list[tuple[float, int]]:
    """When which step was measured."""
    found = []
    for line in spool.read_text().splitlines():
        try:
            point = json.loads(line)
            if "loss" in point["values"]:
                found.append((float(point["time"]), int(point["step"])))
        except (ValueError, KeyError):
            continue  # half a line: its writer was killed
    return found


def _is_delivered(spool: Path) -> bool:
    ack = spool.with_suffix(".ack")
    return ack.exists() and int(ack.read_text()) >= spool.stat().st_size


def jobs_left(lab: Lab) -> list[str]:
    """Ray jobs that still run, after a while in which the service may see them off."""

    def running() -> list[str]:
        jobs = lab.ray("/api/jobs/")
        assert isinstance(jobs, list), "Ray does not answer"
        return [job["submission_id"] for job in jobs if job["status"] in ("PENDING", "RUNNING")]

    wait_for(lambda: not running(), seconds=90, what="jobs to end", fail=False)
    return running()


async def installation_key(lab: Lab) -> str:
    connection = await asyncpg.connect(lab.postgres.url)
    key: str = await connection.fetchval("SELECT key FROM installation")
    await connection.close()
    return key
