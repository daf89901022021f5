"""Whatever one participant does, another owner's heartbeats and reports are answered in time, and his run succeeds.

A real service with its own PostgreSQL, over real HTTP. A victim's trials report while a neighbour, in a process of its
own and with tokens of its own, does each of the attacks of hostile_attacks.py: for a second each here, for twenty with
the marker `slow`. Only Ray is stood in for.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hostile_attacks import ATTACKS, SWEEP, WRITERS
from service_harness import RayStandIn, client, points, take_over_by_http, until
from test_process import Served

WITHIN_S = 2.0
"""The promise: heartbeats and reports are answered within this. On a machine that has other work to do it is longer by
what that takes of the processors, measured before and after each attack."""
SHORT_S, FULL_S = 1.0, 20.0
TRIALS = 3
VICTIM = "{name: victim, search: {metric: h_r, trials: 3, space: {training.lr: {uniform: [0.1, 0.5]}}}}"
_AWAY = {"killed_database"}
"""Attacks during which the service may answer 503: it comes back, and what was refused is delivered again."""


@dataclass
class Victim:
    """One attempt whose worker reports points of three trials and heartbeats, each request on its own."""

    url: str
    experiment_id: int
    path: str
    """Where its reports go."""
    token: str
    may_be_away: bool
    longest: dict[str, float] = field(default_factory=dict)
    """Seconds to the answer, by what was asked."""
    refused: Counter[int] = field(default_factory=Counter)
    steps: int = 0
    """So many steps of each trial are delivered."""

    async def until_told(self, over: asyncio.Event, viewer: httpx.AsyncClient) -> None:
        """Report until the attack is over."""
        await asyncio.gather(self._train(over), self._heartbeats(over), self._watch(over, viewer))

    async def _train(self, over: asyncio.Event) -> None:
        async with client(self.url, self.token) as http:
            await self._report(http, trials=[{"number": n, "state": "running", "epochs": 9} for n in range(TRIALS)])
            while not over.is_set() or self.steps < 3:
                step = self.steps
                series = [points(n, [step], [step / 10], start=1000.0 + step) for n in range(TRIALS)]
                await self._report(http, series=series)
                self.steps += 1
                await _pause(over, 0.05)

    async def _heartbeats(self, over: asyncio.Event) -> None:
        while not over.is_set():
            async with client(self.url, self.token) as http:  # a connection of its own each time
                await self._report(http, kind="heartbeat")
            await _pause(over, 0.1)

    async def _watch(self, over: asyncio.Event, viewer: httpx.AsyncClient) -> None:
        """The victim's owner looks, too: that is answered, if not as soon."""
        while not over.is_set():
            await self._ask(viewer, "look", "GET", f"/api/v1/experiments/{self.experiment_id}/metrics/last")
            await _pause(over, 0.2)

    async def succeed(self) -> None:
        async with client(self.url, self.token) as http:
            await self._report(http, trials=[{"number": n, "state": "succeeded", "epoch": 9} for n in range(TRIALS)])
            await self._report(http, kind="outcome", outcome={"state": "succeeded"})

    async def _report(self, http: httpx.AsyncClient, *, kind: str = "report", **fields: Any) -> None:
        await self._ask(http, kind, "POST", self.path, json=fields)

    async def _ask(self, http: httpx.AsyncClient, what: str, method: str, path: str, **options: Any) -> None:
        """Ask until it is taken; how long an answer took is kept."""
        while True:
            started = time.monotonic()
            status, text = 0, ""
            try:
                answer = await http.request(method, path, **options)
                status, text = answer.status_code, answer.text
            except httpx.TransportError as error:
                text = repr(error)
            took = time.monotonic() - started
            self.longest[what] = max(self.longest.get(what, 0.0), took)
            if status == 200:
                return
            assert self.may_be_away, f"{what}: {status} after {took:.1f} s: {text}"
            self.refused[status] += 1
            await asyncio.sleep(0.1)  # as a worker does that was told to come back


def _stretch() -> float:
    """How many seconds a second of work takes here now: 1 on a machine that has nothing else to do."""
    wall, processor = time.perf_counter(), time.thread_time()
    while time.thread_time() - processor < 0.05:
        pass
    return (time.perf_counter() - wall) / (time.thread_time() - processor)


async def _pause(over: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)


@dataclass
class Lab:
    """A service, a neighbour, and who may do what."""

    served: Served
    url: str
    ray: RayStandIn
    admin: httpx.AsyncClient
    owner: httpx.AsyncClient
    neighbour: subprocess.Popen[str]
    knows: dict[str, Any]
    found: list[str] = field(default_factory=list)
    """A line for each attack: what it came to."""

    async def new_victim(self, *, may_be_away: bool) -> Victim:
        answer = await self.owner.post("/api/v1/experiments", content=VICTIM)
        assert answer.status_code == 201, answer.text
        experiment_id = answer.json()["id"]
        job = await until(lambda: self.ray.job_of(experiment_id), "the victim's job")
        path, token = await asyncio.to_thread(take_over_by_http, self.url, job)
        return Victim(self.url, experiment_id, path, token, may_be_away)

    async def attack(self, name: str, seconds: float) -> None:
        """One attack against one victim; its promise is checked."""
        stretched = await asyncio.to_thread(_stretch)
        victim = await self.new_victim(may_be_away=name in _AWAY)
        over = asyncio.Event()
        victims = asyncio.create_task(victim.until_told(over, self.owner))
        answered = asyncio.create_task(asyncio.to_thread(self._order, name, seconds))
        try:
            if name == "killed_database":
                await self._kill_database(victim)
            await asyncio.wait({victims, answered}, return_when=asyncio.FIRST_COMPLETED)
            if victims.done():
                victims.result()
        finally:
            over.set()
            answers = await answered
        await victims
        await victim.succeed()
        memory = psutil.Process(self.served.process.pid).memory_info().rss / 2**20
        longest = ", ".join(f"{what} {took:.2f} s" for what, took in sorted(victim.longest.items()))
        within = WITHIN_S * max(stretched, await asyncio.to_thread(_stretch))
        told = f"{name:24} {longest}, of {within:.1f} s; {victim.steps} steps; {memory:.0f} MiB; {answers['answers']}"
        self.found.append(told)
        await self._check(victim, answers, within)

    def _order(self, name: str, seconds: float) -> dict[str, Any]:
        assert self.neighbour.stdin is not None
        assert self.neighbour.stdout is not None
        order = {"attack": name, "seconds": seconds, "lab": self.knows}
        self.neighbour.stdin.write(json.dumps(order) + "\n")
        self.neighbour.stdin.flush()
        answers: dict[str, Any] = json.loads(self.neighbour.stdout.readline())
        return answers

    async def _kill_database(self, victim: Victim) -> None:
        await until(lambda: victim.steps >= 3, "the victim to report")
        pid = int((self.served.state / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        steps = victim.steps
        await until(lambda: victim.steps > steps + 3, "the database to be back", seconds=60)

    async def _check(self, victim: Victim, answers: dict[str, Any], within: float) -> None:
        assert answers["error"] is None, answers
        assert answers["answers"], "the attack did nothing"
        assert "500" not in answers["answers"], answers
        late = {what: took for what, took in victim.longest.items() if what != "look" and took > within}
        assert not late or victim.may_be_away, late
        path = f"/api/v1/experiments/{victim.experiment_id}"
        assert victim.steps >= 3
        found = (await self.owner.get(f"{path}/metrics?raw=true")).json()["series"]
        steps = [*range(victim.steps)]
        assert [(s["trial"], s["metric"], s["steps"]) for s in found] == [(n, "h_r", steps) for n in range(TRIALS)]
        assert all(s["values"] == [step / 10 for step in steps] for s in found)
        state = (await self.owner.get(path)).json()["state"]
        assert state == "succeeded"


@pytest.fixture(scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    folder, ray = tmp_path_factory.mktemp("hostile"), RayStandIn()
    served = Served(folder, ray, None, ADADIM_SLOTS="4")
    neighbour = _start_neighbour()
    try:
        url = await served.url()
        token = (served.state / "token").read_text().strip()
        async with client(url, token) as admin:
            owner = await _token(admin, "ada", "submitter")
            knows = await _move_in(admin, url, ray, folder)
            async with client(url, owner) as http:
                lab = Lab(served, url, ray, admin, http, neighbour, knows)
                yield lab
                capture = request.config.pluginmanager.get_plugin("capturemanager")
                with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                    print("", *lab.found, sep="\n")
    finally:
        neighbour.kill()
        neighbour.wait()
        if served.process.poll() is None:
            await served.end(signal.SIGTERM)
        ray.go_away()


def _start_neighbour() -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("hostile_attacks.py"))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _token(admin: httpx.AsyncClient, name: str, role: str) -> str:
    answer = await admin.post("/api/v1/tokens", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


async def _move_in(admin: httpx.AsyncClient, url: str, ray: RayStandIn, folder: Path) -> dict[str, Any]:
    """The neighbour's tokens, its open attempts, and an experiment with odd files in its folder of the storage."""
    submitter, viewer = await _token(admin, "mallory", "submitter"), await _token(admin, "mallory", "viewer")
    revoked = (await admin.post("/api/v1/tokens", json={"name": "mallory", "role": "viewer"})).json()
    await admin.delete(f"/api/v1/tokens/{revoked['id']}")
    attempts, experiments = [], []
    async with client(url, submitter) as http:
        for number in range(WRITERS):
            body = {"id": f"{number:032x}", "spec": json.dumps(SWEEP)}
            opened = (await http.post("/api/v1/experiments/import", json=body)).json()
            attempts.append((opened["attempt_id"], opened["token"]))
            experiments.append(opened["experiment_id"])
        experiment = (await http.post("/api/v1/experiments", content=VICTIM)).json()["id"]
        job = await until(lambda: next(iter(ray.jobs.values()), None), "the neighbour's job")
        path, token = await asyncio.to_thread(take_over_by_http, url, job)
        trials = (await http.get(f"/api/v1/experiments/{experiment}/trials")).json()["items"]
    running = [{"number": number, "state": "running"} for number in range(TRIALS)]
    async with client(url, token) as http:
        answer = await http.post(path, json={"trials": running})
        assert answer.status_code == 200, answer.text
    _lay_out(folder / "state" / "storage" / job.submission_id.rpartition("-")[0], folder / "state" / "token")
    return {
        "url": url,
        "submitter": submitter,
        "viewer": viewer,
        "revoked": revoked["token"],
        "attempts": [*attempts[:-1], (int(path.split("/")[-2]), token)],
        "experiments": experiments[:-1],
        "experiment": experiment,
        "trials": [trial["id"] for trial in trials],
    }


def _lay_out(storage: Path, secret: Path) -> None:
    """A log that is a link to the admin's token, one that is a FIFO nobody writes, one in a folder that is a link."""
    for number in range(TRIALS):
        (storage / "trials").mkdir(parents=True, exist_ok=True)
        folder = storage / "trials" / f"{number:04d}"
        if number == 2:
            folder.symlink_to("/dev")
            continue
        folder.mkdir()
        if number == 0:
            (folder / "log.txt").symlink_to(secret)
        else:
            os.mkfifo(folder / "log.txt")


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name not in _AWAY])
async def test_a_neighbour_hurts_nobody(lab: Lab, attack: str) -> None:
    await lab.attack(attack, SHORT_S)


def test_the_service_may_open_as_many_files_as_there_may_be(lab: Lab) -> None:
    """A shell's 1,024 are fewer than the silent connections of one second."""
    soft, hard = psutil.Process(lab.served.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_neighbour_hurts_nobody_for_long(lab: Lab, attack: str) -> None:
    await lab.attack(attack, FULL_S)
