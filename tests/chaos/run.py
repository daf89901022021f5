"""One chaos run: a lab, experiments, kills by a seed, and then every check.

.venv/bin/python -m tests.chaos.run [--seed N] [--minutes 5] [--experiments 12]
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import checks
from tests.chaos.experiments import SPEC, Planned, User, planned
from tests.chaos.killer import KINDS, Killer, Supervisor
from tests.chaos.parts import Lab, lab, wait_for


@dataclass(frozen=True)
class Chaos:
    """How much of it."""

    seed: int
    seconds: float
    """Killing goes on for so long at least."""
    kills: int
    """And until so many have been made."""
    experiments: int
    epochs: int
    slots: int
    pause_s: tuple[float, float] = (3.0, 8.0)
    """Between two kills."""
    patience_s: float = 1800.0
    """For everything to come to its end once the killing is over."""
    kinds: tuple[str, ...] = KINDS
    nodes: int = 2
    """Ray nodes beside the head."""


def run(chaos: Chaos) -> list[str]:
    """Run it. Returns what was found wrong."""
    say(f"seed {chaos.seed}: {chaos.experiments} experiments, kills for {chaos.seconds:.0f} s at least")
    with tempfile.TemporaryDirectory(prefix="adadim-chaos-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # PostgreSQL has a user of its own
        with lab(Path(directory), slots=chaos.slots, nodes=chaos.nodes) as made:
            try:
                return _run(made, chaos)
            except BaseException:
                for log in sorted(Path(directory).glob("replica-*.log")):
                    say(f"--- the end of {log.name}\n{log.read_text()[-3000:]}")
                raise


def _run(made: Lab, chaos: Chaos) -> list[str]:
    experiments = planned(chaos.experiments)
    user = User(made)
    say("the lab is up")
    with Supervisor(made) as supervisor:
        for experiment in experiments:
            user.submit(experiment, chaos.epochs)
        # From here on there is something of every kind to kill.
        wait_for(lambda: bool(made.trial_actors()), seconds=60, what="the first trial", fail=False)
        killer = Killer(made, supervisor, chaos.seed, chaos.pause_s, chaos.kinds)
        began = time.monotonic()
        ended = threading.Event()

        def enough() -> bool:
            over = time.monotonic() - began >= chaos.seconds and sum(killer.kills.values()) >= chaos.kills
            return over or ended.is_set()

        killing = threading.Thread(target=killer.run, args=(enough,), daemon=True)
        killing.start()
        try:
            _drive(user, experiments, killing, chaos.patience_s)
        finally:
            ended.set()
            killing.join(120)
        say(killer.report())
        problems = _check(made, user, experiments, chaos)
    left = made.stop()
    problems += [f"process left behind: {process}" for process in left]
    return problems


def _drive(user: User, experiments: list[Planned], killing: threading.Thread, patience_s: float) -> None:
    """Do what users do until every experiment has come to its end."""
    open_ones, deadline, said = list(experiments), None, 0.0
    while open_ones or killing.is_alive():
        open_ones = [experiment for experiment in open_ones if not user.advance(experiment)]
        if deadline is None and not killing.is_alive():
            say("the killing is over")
            deadline = time.monotonic() + patience_s
        if deadline is not None and time.monotonic() > deadline:
            states = {experiment.name: user.state(experiment) for experiment in open_ones}
            raise AssertionError(f"not at their ends {patience_s:.0f} s after the last kill: {states}")
        if time.monotonic() - said > 30:
            said = time.monotonic()
            say(f"{len(experiments) - len(open_ones)} of {len(experiments)} experiments at their ends")
        time.sleep(0.5)


def _check(made: Lab, user: User, experiments: list[Planned], chaos: Chaos) -> list[str]:
    problems = []
    expected = checks.reference(SPEC.format(name="reference", epochs=chaos.epochs, data="{dataset: digits}"))
    key = asyncio.run(checks.installation_key(made))
    for experiment in experiments:
        state = user.state(experiment)
        if state != experiment.end:
            reason = (user.ask(lambda client, e=experiment: client.experiment(e.id)) or {}).get("state_reason")
            problems.append(f"{experiment.name} is {state}, should be {experiment.end}: {reason}")
            continue
        if experiment.end not in ("gone", "failed"):
            problems += checks.series_problems(user, experiment, expected)
        problems += checks.checkpoint_problems(made, key, user, experiment, chaos.epochs, expected)
    problems += asyncio.run(checks.overlap_problems(made))
    problems += [f"job left on Ray: {job}" for job in checks.jobs_left(made)]
    return problems


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill parts of a lab at random and see that nothing is lost.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="replays a run's kills")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--experiments", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    seconds = options.minutes * 60
    problems = run(Chaos(options.seed, seconds, 20, options.experiments, options.epochs, slots=3))
    say("\n".join(["FAILED", *problems]) if problems else "every check holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
