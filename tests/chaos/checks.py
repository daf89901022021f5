"""What must hold when the killing is over. Each check says what it found wrong; together they are the promise."""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg

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
    for plan in plan_trials(spec.search):
        steps: dict[str, list[int]] = defaultdict(list)

        def report(step: int, epoch: float, values: Any, steps: dict[str, list[int]] = steps) -> None:
            for name in values:
                steps[name].append(step)

        Trainer(spec.with_params(plan.params), report=report).fit()
        found.append(steps)
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


def checkpoint_problems(lab: Lab, key: str, user: User, experiment: Planned, epochs: int) -> list[str]:
    """Where the trainer says it is, against where the service says it is."""
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
        elif (place / "checkpoint.pt").exists():
            step = read_checkpoint(place / "checkpoint.pt", "cpu")["step"]  # type: ignore[arg-type]
            if step > last.get(number, 0):
                problems.append(f"{experiment.name}: trial {number} saved step {step}, reported {last.get(number)}")
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
            spans[attempt] += _times(spool)
        for before, after in itertools.pairwise(sorted(attempt for attempt, times in spans.items() if times)):
            if max(spans[before]) > min(spans[after]):
                seconds = max(spans[before]) - min(spans[after])
                problems.append(f"{folder.name}: attempts {before} and {after} measured at once for {seconds:.1f} s")
    return problems


def _times(spool: Path) -> list[float]:
    times = []
    for line in spool.read_text().splitlines():
        try:
            times.append(float(json.loads(line)["time"]))
        except ValueError:
            continue  # half a line: its writer was killed
    return times


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
