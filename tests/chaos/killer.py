"""The killer: SIGKILL to a random part every few seconds, in an order that its seed fixes; and the supervisor."""

import random
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import psutil

from tests.chaos.parts import Lab, Part, Postgres

KINDS = ("replica", "postgres", "head", "node", "driver", "trial actor")
_RESTART_S = 1.0
"""What a supervisor takes to notice and start again."""


class Supervisor:
    """Restarts what has ended, as Kubernetes or systemd would, until it is closed."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        """Held while a part is killed or restarted."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._closed.wait(_RESTART_S):
            for part in self._lab.parts:
                with self.locks[part.name]:
                    if not part.runs and not self._closed.is_set():
                        part.kill()  # what is left of it, as the end of a container would
                        with suppress(OSError, subprocess.TimeoutExpired):
                            part.start()


class Killer:
    """Kills by its seed: the same seed gives the same kinds after the same pauses."""

    def __init__(
        self, lab: Lab, supervisor: Supervisor, seed: int, pause_s: tuple[float, float], kinds: tuple[str, ...] = KINDS
    ) -> None:
        self._lab, self._supervisor, self._pause_s, self._kinds = lab, supervisor, pause_s, kinds
        self._random = random.Random(seed)
        self._watchers: list[threading.Thread] = []
        self.kills: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.recoveries: dict[str, list[float]] = defaultdict(list)

    def run(self, enough: Callable[[], bool]) -> None:
        """Kill until it is enough."""
        order: list[str] = []
        while not enough():
            if len(order) < len(self._kinds):  # each kind in its turn, the turns in random order
                order += self._random.sample(self._kinds, len(self._kinds))
            time.sleep(self._random.uniform(*self._pause_s))
            kind, choice = order.pop(0), self._random.random()
            if self._kill(kind, choice):
                self.kills[kind] += 1
            else:
                order.append(kind)  # there is none just now, as no driver while the head is away

    def _kill(self, kind: str, choice: float) -> bool:
        lab = self._lab
        if kind in ("driver", "trial actor"):
            victims = lab.drivers() if kind == "driver" else lab.trial_actors()
            if not victims:
                return False
            with suppress(psutil.Error):
                victims[int(choice * len(victims))].kill()
            return True
        parts: list[Part | Postgres] = {
            "replica": [*lab.replicas], "postgres": [lab.postgres], "head": [lab.head], "node": [*lab.nodes],
        }[kind]  # fmt: skip
        part = parts[int(choice * len(parts))]
        with self._supervisor.locks[part.name]:
            if not part.runs:
                return False  # it is still down from the last time
            part.kill()
        self._watch(kind, part)
        return True

    def _watch(self, kind: str, part: Part | Postgres) -> None:
        """Time until it serves again."""
        lab = self._lab

        def back() -> bool:
            if kind == "replica":
                return lab.replica_answers(lab.replicas.index(part))  # type: ignore[arg-type]
            if kind == "head":
                return lab.head_answers()
            if kind == "postgres":
                return any(lab.replica_answers(number) for number in range(2))
            return part.runs

        def watch() -> None:
            began = time.monotonic()
            time.sleep(_RESTART_S / 2)
            while time.monotonic() - began < 300:
                if part.runs and back():
                    self.recoveries[kind].append(time.monotonic() - began)
                    return
                time.sleep(0.2)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        self._watchers.append(thread)

    def report(self) -> str:
        """Kills survived and recovery times, one line a kind."""
        for thread in self._watchers:
            thread.join(300)
        lines = [f"{sum(self.kills.values())} kills survived"]
        for kind, count in self.kills.items():
            times = self.recoveries.get(kind, [])
            found = f"; back after median {statistics.median(times):.1f} s, at most {max(times):.1f} s" if times else ""
            lines.append(f"  {kind}: {count}{found}")
        return "\n".join(lines)
