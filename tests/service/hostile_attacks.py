"""What a hostile neighbour does to the service: one attack at a time, in a process of its own.

Run as a program it reads one JSON object a line from standard input: {"attack": NAME, "seconds": S, "lab": {...}}, and
writes one when the attack is over, with what the service answered. Each attack stays within what its tokens allow.
"""

import asyncio
import contextlib
import json
import os
import resource
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

BEGUN_WITHIN_S = 60.0
SILENT_CONNECTIONS = 1_100
WRITERS = 6
"""Attempts of the neighbour's that are open."""
TRIALS = 1_000
"""Trials of each of its sweeps."""

SWEEP = {
    "name": "neighbour",
    "search": {"trials": TRIALS, "space": {"training.lr": {"uniform": [0.1, 0.5]}}},
}


@dataclass
class Lab:
    """What the neighbour knows and holds."""

    url: str
    submitter: str
    viewer: str
    revoked: str
    attempts: list[tuple[int, str]]
    """Numbers and tokens of its attempts."""
    experiments: list[int]
    """What they belong to."""
    experiment: int
    """One that runs, with its folder in the storage."""
    trials: list[int]
    """Trials of that experiment."""
    answers: Counter[str] = field(default_factory=Counter)

    def client(self, token: str, timeout: float = 30.0) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout, limits=limits, trust_env=False, verify=False
        )

    async def request(self, http: httpx.AsyncClient, method: str, path: str, **options: Any) -> None:
        """Ask, and count the answer; one that does not come is an answer too."""
        self.answers["asked"] += 1
        try:
            answer = await http.request(method, path, **options)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
        else:
            self.answers[str(answer.status_code)] += 1

    async def again_and_again(self, ask: Callable[[int], Awaitable[None]], loops: int) -> None:
        """So many clients that ask without a pause, until they are cancelled."""

        async def loop(number: int) -> None:
            while True:
                await ask(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(loop(number) for number in range(loops)))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.url)
        return await asyncio.open_connection(address.hostname, address.port)


async def declared_bodies(lab: Lab) -> None:
    """Bodies of 8 MiB are declared; of some nothing comes, of others a byte now and then."""

    async def one(number: int) -> None:
        attempt, token = lab.attempts[number % len(lab.attempts)]
        reader, writer = await lab.connect()
        head = (
            f"POST /api/v1/attempts/{attempt}/reports HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/vnd.adadim.report\r\nContent-Length: {8 * 1024 * 1024}\r\n\r\n"
        )
        writer.write(head.encode())
        lab.answers["begun"] += 1
        while not reader.at_eof():
            if number % 2:
                writer.write(b"x")
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
        lab.answers["closed"] += 1

    await lab.again_and_again(one, 40)


async def many_changes(lab: Lab) -> None:
    """Each report changes every trial of a sweep, and the next one changes them back."""
    bodies = [
        json.dumps({"trials": [{"number": n, "state": state, "epoch": 1} for n in range(TRIALS)]}).encode()
        for state in ("running", "failed")
    ]
    reports = Counter[int]()

    async with lab.client("") as http:

        async def one(number: int) -> None:
            attempt, token = lab.attempts[number % len(lab.attempts)]
            reports[number] += 1
            await _report(lab, http, attempt, token, bodies[reports[number] % 2])

        await lab.again_and_again(one, 2 * WRITERS)


async def one_trial_over_and_over(lab: Lab) -> None:
    """Each report changes one trial a thousand times."""
    changes = [{"number": 0, "state": "running" if n % 2 else "interrupted", "epoch": n} for n in range(TRIALS)]
    body = json.dumps({"trials": changes}).encode()
    async with lab.client("") as http:

        async def one(number: int) -> None:
            attempt, token = lab.attempts[number % len(lab.attempts)]
            await _report(lab, http, attempt, token, body)

        await lab.again_and_again(one, 4 * WRITERS)


async def locked_rows(lab: Lab) -> None:
    """Actions on experiments whose rows the neighbour's own reports keep locked: each waits with a connection."""
    states = [json.dumps({"trials": [{"number": n, "state": s} for n in range(TRIALS)]}) for s in ("running", "failed")]
    reports = Counter[int]()
    async with lab.client("") as worker, lab.client(lab.submitter) as http:

        async def one(number: int) -> None:
            if number < WRITERS:
                attempt, token = lab.attempts[number]
                reports[number] += 1
                await _report(lab, worker, attempt, token, states[reports[number] % 2].encode())
                return
            experiment = lab.experiments[number % len(lab.experiments)]
            await lab.request(http, "POST", f"/api/v1/experiments/{experiment}/pause")

        await lab.again_and_again(one, WRITERS + 60)


async def nested_choices(lab: Lab) -> None:
    """The costliest specs there are, by clients of which every other one leaves before it is answered."""
    node: Any = {"policy": "fixed", "alpha": {"uniform": [0, 1]}}
    for level in range(6):
        node = {"choice": [node, {"policy": "fixed", "alpha": level / 9}]}
    sections = [{"policy": "fixed", "alpha": number / 1000} for number in range(1000)]
    spaces = [
        {"algorithm": "random", "trials": 1000, "space": {"objective.weighting": node}},
        {"algorithm": "grid", "space": {"objective.weighting": {"choice": sections}}},
        {"algorithm": "random", "trials": 1000, "space": {"training.epochs": {"choice": [*range(1, 1001)]}}},
        {"algorithm": "random", "trials": 1, "space": {"training.lr": _deep(11)}},
    ]
    bodies = [json.dumps({"name": "a", "search": search}).encode() for search in spaces]
    async with lab.client(lab.submitter) as patient, lab.client(lab.submitter, timeout=0.02) as leaving:

        async def one(number: int) -> None:
            http = leaving if number % 2 else patient
            body = bodies[number // 2 % len(bodies)]
            headers = {"Content-Type": "application/json"}
            await lab.request(http, "POST", "/api/v1/experiments?dry_run=true", content=body, headers=headers)

        await lab.again_and_again(one, 16)


def _deep(levels: int) -> Any:
    node: Any = 1.0
    for level in range(levels):
        node = {"choice": [{"choice": [node, level + 2.0]}, level + 0.5]}
    return node


async def metric_names(lab: Lab) -> None:
    """Reports with names that nobody has had before."""
    async with lab.client("") as http:

        async def one(number: int) -> None:
            attempt, token = lab.attempts[number % len(lab.attempts)]
            names = [f"n{secrets.token_hex(8)}" for _ in range(48)]
            series = {"trial": 0, "steps": [1], "epochs": [1.0], "times": [1.0], "values": {n: [1.0] for n in names}}
            await _report(lab, http, attempt, token, json.dumps({"series": [series]}).encode())

        await lab.again_and_again(one, WRITERS)


async def growing_json(lab: Lab) -> None:
    """Bodies that are many times as large once they are read."""
    shapes = [
        b'{"series":[' + b",".join([b"{}"] * 690_000) + b"]}",
        b'{"data":{"a":' + b'{"a":[' * 50_000 + b"1" + b"]}" * 50_000 + b"}}",
        b'{"series":[{"trial":0,"steps":[' + b",".join([b"1"] * 900_000) + b'],"epochs":[],"times":[],"values":{}}]}',
        b'{"trials":[' + b",".join([b'{"number":0,"state":"x"}'] * 80_000) + b"]}",
    ]
    async with lab.client("") as http:

        async def one(number: int) -> None:
            attempt, token = lab.attempts[number % len(lab.attempts)]
            await _report(lab, http, attempt, token, shapes[number % len(shapes)])

        await lab.again_and_again(one, 7)


async def storage_links(lab: Lab) -> None:
    """Logs that are links and FIFOs (laid out by the test) are asked for forty times at once."""
    async with lab.client(lab.viewer) as http:

        async def one(number: int) -> None:
            trial = lab.trials[number % len(lab.trials)]
            await lab.request(http, "GET", f"/api/v1/trials/{trial}/logs", params={"follow": str(number % 2 == 0)})

        await lab.again_and_again(one, 40)


async def silent_connections(lab: Lab) -> None:
    """Connections that say nothing, and are opened again when they are closed."""

    async def one(_number: int) -> None:
        reader, _ = await lab.connect()
        lab.answers["opened"] += 1
        await reader.read(1)
        lab.answers["closed"] += 1
        await asyncio.sleep(0.05)

    await lab.again_and_again(one, SILENT_CONNECTIONS)


async def readers(lab: Lab) -> None:
    """One viewer takes every place there is: followers of logs and events, reads of metrics, exports, answers."""
    path = f"/api/v1/experiments/{lab.experiment}"
    held = [f"{path}/logs?follow=true"] * 70 + [f"{path}/events"] * 520
    short = [
        f"{path}/metrics?raw=true",
        f"{path}/points.csv",
        f"{path}/trials.parquet",
        f"{path}/answer",
        f"{path}/metrics/last",
    ]
    async with lab.client(lab.viewer) as http:

        async def one(number: int) -> None:
            if number < len(held):
                await _hold(lab, held[number])
            else:
                await lab.request(http, "GET", short[number % len(short)])

        await lab.again_and_again(one, len(held) + 20)


async def _hold(lab: Lab, path: str) -> None:
    """Ask for a stream and read no more than its beginning, until the service ends it."""
    reader, writer = await lab.connect()
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {lab.viewer}\r\n\r\n"
    writer.write(head.encode())
    lab.answers["begun"] += 1
    status = (await reader.readline()).split()
    lab.answers[status[1].decode() if len(status) > 1 else "closed"] += 1
    while not reader.at_eof():
        await asyncio.sleep(1)
        await reader.read(1)
    writer.close()


async def huge_losses(lab: Lab) -> None:
    """Numbers at the ends of what there is, and the reads that show them."""
    values = [1e308, -1e308, 1.9e19, 5e-324, "NaN", "Infinity", "-Infinity"]
    path = f"/api/v1/experiments/{lab.experiment}"
    async with lab.client("") as http, lab.client(lab.viewer) as viewer:

        async def one(number: int) -> None:
            attempt, token = lab.attempts[number % len(lab.attempts)]
            steps = [secrets.randbelow(2**62) for _ in values]
            columns = {"steps": steps, "epochs": [1e9] * len(values), "times": [1e15] * len(values)}
            series = {"trial": number % TRIALS, **columns, "values": {"loss": values, "h_r": values}}
            await _report(lab, http, attempt, token, json.dumps({"series": [series]}).encode())
            await lab.request(viewer, "GET", f"{path}/metrics/last")

        await lab.again_and_again(one, WRITERS)


async def import_flood(lab: Lab) -> None:
    """Runs that nobody made are imported, each with as many trials as there may be."""
    spec = json.dumps(SWEEP)
    async with lab.client(lab.submitter) as http:

        async def one(_number: int) -> None:
            body = {"id": secrets.token_hex(16), "spec": spec}
            await lab.request(http, "POST", "/api/v1/experiments/import", json=body)

        await lab.again_and_again(one, 16)


async def wrong_tokens(lab: Lab) -> None:
    """A revoked token and ones that never were, as often as it goes, also for other people's attempts."""
    async with lab.client("") as http:

        async def one(number: int) -> None:
            token = lab.revoked if number % 2 else f"adadim_{secrets.token_urlsafe(32)}"
            path = "/api/v1/experiments" if number % 3 else f"/api/v1/attempts/{1 + number}/reports"
            headers = {"Authorization": f"Bearer {token}"}
            await lab.request(http, "GET" if number % 3 else "POST", path, headers=headers)

        await lab.again_and_again(one, 32)


async def killed_database(lab: Lab) -> None:
    """Nothing but the time: the test kills the database."""
    lab.answers["begun"] += 1
    await asyncio.Event().wait()


async def _report(lab: Lab, http: httpx.AsyncClient, attempt: int, token: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    await lab.request(http, "POST", f"/api/v1/attempts/{attempt}/reports", content=body, headers=headers)


ATTACKS: dict[str, Callable[[Lab], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        declared_bodies, many_changes, one_trial_over_and_over, locked_rows, nested_choices, metric_names, growing_json,
        storage_links, silent_connections, readers, huge_losses, import_flood, wrong_tokens, killed_database,
    )
}  # fmt: skip


async def attack(name: str, seconds: float, lab: Lab) -> dict[str, Any]:
    """Go on for so long from its first request, which a busy machine may delay; what was answered."""
    started = time.monotonic()
    task = asyncio.ensure_future(ATTACKS[name](lab))
    while not (lab.answers or task.done()) and time.monotonic() - started < BEGUN_WITHIN_S:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    error = None
    if done:
        error = repr(task.exception())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {"answers": dict(lab.answers), "error": error, "seconds": time.monotonic() - started}


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(10)  # a neighbour elsewhere would not compute on the service's machine
    for line in sys.stdin:
        order = json.loads(line)
        found = asyncio.run(attack(order["attack"], order["seconds"], Lab(**order["lab"])))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
