"""The product in containers: built, started, cut, killed, upgraded, backed up; and then every check.

.venv/bin/python -m tests.deploy.run [--keep FOLDER]

Exits 0 only if every point is there exactly once and every trial's last step is the one it reported. Leaves nothing
behind, but with --keep the images, for the next time.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from service.cluster.ports import free_ports
from tests.chaos.experiments import ENDED
from tests.deploy import images, upgrade
from tests.deploy.engine import Engine, lacks
from tests.deploy.experiments import Work, attempts_overlap, exports
from tests.deploy.lab import PROJECT, Lab, User, wait_for

CUT_S = 20.0
PATIENCE_S = 900.0
LINKS = [
    ("service", "postgres"),
    ("service", "ray-head"),
    ("service", "worker 1"),
    ("service", "worker 2"),
    ("ray-head", "worker 1"),
    ("ray-head", "worker 2"),
    ("worker 1", "worker 2"),
]
KILLED = ("worker 1", "service", "postgres", "ray-head")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(engine: Engine, folder: Path, epochs: int) -> list[str]:
    """Run it. Returns what was found wrong."""
    began = time.monotonic()
    images.make(engine, folder / "bases", say)
    upgrade.build_next(engine)
    lab = Lab(engine)
    problems: list[str] = []
    with _containers(lab):
        lab.start()
        say(f"all parts are up after {time.monotonic() - began:.0f} s")
        problems += _health(lab)
        user = User(lab)
        work = Work(user, epochs)
        _two_processes(lab, work)
        _cuts(lab, work)
        _kills(lab, work)
        during = work.submit()
        wait_for(lambda: work.trains(during), seconds=300, what="a sweep to train during the upgrade")
        say(f"memory while a sweep trains: {_memory(lab)}")
        say(upgrade.upgrade(lab))
        wait_for(
            lambda: all(work.state(experiment) in ENDED for experiment in work.done),
            seconds=PATIENCE_S,
            what="every experiment to end",
        )
        wrong, points = work.problems(lab)
        problems += wrong + attempts_overlap(lab)
        say(f"{len(work.done)} experiments, {points} points due, {lab.sql('SELECT count(*) FROM attempts')} attempts")
        problems += _backup(lab, work)
        say(f"memory at rest: {_memory(lab)}")
        say("restarts: " + ", ".join(f"{name} {c.restarts}" for name, c in lab.containers().items()))
    say(f"took {(time.monotonic() - began) / 60:.1f} minutes")
    return problems


@contextmanager
def _containers(lab: Lab) -> Iterator[None]:
    lab.engine.remove_containers()  # a run that was killed may have left some, with another password
    lab.create()
    try:
        yield
    except BaseException:
        for line in lab.engine.run("ps", "--all", "--format", "{{.Names}} {{.Status}}", check=False).splitlines():
            name = line.split()[0]
            say(f"--- {line}; the end of its log\n{lab.engine.logs(name, 30)[-3000:]}")
        raise
    finally:
        lab.engine.remove_containers()


def _health(lab: Lab) -> list[str]:
    """The health checks of the file, asked once each, and what a container may not do."""
    problems = []
    for name, container in lab.containers().items():
        try:
            wait_for(
                lambda c=container: lab.engine.run("healthcheck", "run", c.name, check=False).strip() == "",
                seconds=60,
                what=f"{name} to be well",
            )
        except AssertionError as error:
            problems.append(str(error))
    if lab.container("service").run("sh", "-c", "touch /opt/adadim/x 2>/dev/null && echo written", check=False):
        problems.append("the service's root can be written")
    cpus = lab.container("ray-head").run("ray", "status").partition("Total Usage:")[2]
    if f"/{2.0} CPU" not in cpus:
        problems.append(f"two workers of 1 CPU make a cluster of {cpus.strip().splitlines()[:1]}")
    return problems


def _two_processes(lab: Lab, work: Work) -> None:
    """A trial of two processes, on two workers: their link is cut, then one of them is killed."""
    pair = work.submit(workers=2)
    wait_for(lambda: work.trains(pair), seconds=240, what="the trial of two processes to train")
    nodes = lab.containers()
    with nodes["worker 1"].cut_from(nodes["worker 2"]):
        time.sleep(CUT_S)
    say(f"worker 1 - worker 2 was cut for {CUT_S:.0f} s while a trial of two processes trained on them")
    _kill(lab, "worker 2")
    say(f"... of which {pair.name} trained on one; it is {work.state(pair)}")


def _cuts(lab: Lab, work: Work) -> None:
    nodes = lab.containers()
    assert {frozenset(link) for link in LINKS} <= {frozenset(pair) for pair in combinations(nodes, 2)}
    for one, other in LINKS:
        work.keep_busy()
        with nodes[one].cut_from(nodes[other]):
            time.sleep(CUT_S)
        began = time.monotonic()
        wait_for(lab.is_ready, seconds=180, what="the service to be ready")
        say(f"{one} - {other} was cut for {CUT_S:.0f} s; ready {time.monotonic() - began:.1f} s after it")


def _kills(lab: Lab, work: Work) -> None:
    for name in KILLED:
        work.keep_busy()
        _kill(lab, name)


def _kill(lab: Lab, name: str) -> None:
    """Kill a part, and wait until it is there again: a node of Ray as another node, the head with both workers."""
    container, before = lab.containers()[name], lab.nodes()
    replaced = {"ray-head": 3, "worker 1": 1, "worker 2": 1}.get(name, 0)
    container.kill()
    began = time.monotonic()
    wait_for(lambda: container.pid != 0, seconds=120, what=f"{name} to be started again")
    wait_for(lab.is_ready, seconds=240, what="the service to be ready")
    wait_for(
        lambda: len(found := lab.nodes()) == 3 and len(found - before) >= replaced,
        seconds=420,
        what="the head and both workers",
    )
    say(f"{name} was killed; all is there again after {time.monotonic() - began:.0f} s")


def _backup(lab: Lab, work: Work) -> list[str]:
    """A backup, restored beside the original and served from there: every experiment exports the same points."""
    before = exports(work.user, work.done)
    name, (port,) = f"{PROJECT}_service_next", free_ports(1)
    lab.engine.run("exec", name, "adadim", "backup", "/state/backup.zip", timeout_s=300)
    lab.sql("CREATE DATABASE copy")
    copy = "DATABASE_URL=postgresql://adadim@postgres:5432/copy"
    restore = ("adadim", "restore", "/state/backup.zip")
    options = ("--env", copy, "--env", "ADADIM_STATE_DIR=/tmp/copy")
    said = lab.engine.run("exec", *options, name, *restore, timeout_s=300)
    say(f"backup: {said.strip().splitlines()[0]}")
    lab.run_service(f"{PROJECT}_copy", upgrade.NEXT, port, copy)
    upgrade.wait_until_ready(port, seconds=120, what="the copy")
    after = exports(User(lab, port), work.done)  # with the tokens that the original has
    problems = [
        f"experiment {number} has other points in the copy" for number in before if before[number] != after[number]
    ]
    if not all(content.count(b"\n") > 1 for content in before.values()):
        problems.append("an export is empty")
    return problems


def _memory(lab: Lab) -> str:
    """What each container takes."""
    found = lab.engine.run("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", check=False)
    return ", ".join(line.removeprefix(f"{PROJECT}_").partition(" / ")[0] for line in found.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description="Build, run, cut and kill the product in containers.")
    parser.add_argument("--keep", type=Path, help="keep images in this folder, and use those that are there")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    if missing := lacks():
        say("containers cannot run here; it lacks\n  " + "\n  ".join(missing))
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which removes what was made
    folder = options.keep or Path(tempfile.mkdtemp(prefix="adadim-deploy-", dir="/var/tmp"))
    engine = Engine(folder)
    try:
        problems = run(engine, folder, options.epochs)
    finally:
        if options.keep is None:
            engine.remove_everything()
    say("\n".join(["FAILED", *problems]) if problems else "every check holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
