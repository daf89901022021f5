"""What reading untrusted input costs, in processor time and memory: each input in a process of its own.

`costs` starts this file as a program; it reads an ordinary input first, so that imports and caches are not counted,
and forks for every other. A machine that is busy counts more processor time for the same work: how much more is
measured by work whose time is known, next to each input.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILOBYTES = 64
SECONDS, MEGABYTES = 0.05, 20.0
"""Bounds for every 64 KiB of input, and for any that is smaller."""
_KNOWN_SECONDS = 0.0012
"""What `_known_work` takes on the machine for which the bounds are: two cores of an AMD EPYC, otherwise idle."""
_LIMIT_S = 20
"""An input that costs more is given up."""


@dataclass(frozen=True)
class Cost:
    """What one input cost."""

    size: int
    """Bytes of the input."""
    seconds: float
    """Of a processor, as on an idle machine."""
    megabytes: float
    """Of memory at most, above what the process had before."""
    outcome: str
    """read, refused, or how it broke."""

    @property
    def is_bounded(self) -> bool:
        share = max(1.0, self.size / (KILOBYTES * 1024))
        return (
            self.outcome.startswith(("read", "refused"))
            and self.seconds <= SECONDS * share
            and self.megabytes <= MEGABYTES * share
        )


def costs(reader: str, ordinary: bytes, inputs: Mapping[str, bytes], folder: Path, suffix: str = "") -> dict[str, Cost]:
    """The cost of every input, by its name.

    Args:
        reader: what reads a file, as "package.module:function"; it takes the file's path and raises ValueError,
            OSError or an error of the project for what it refuses.
        ordinary: an input that is read first and not counted.
        inputs: the others.
        folder: where their files go.
        suffix: how the names of their files end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ["ordinary", *inputs]
    for number, data in enumerate([ordinary, *inputs.values()]):
        (folder / f"{number}{suffix}").write_bytes(data)
    found = subprocess.run(
        [sys.executable, __file__, reader, str(folder), suffix, str(len(names))],
        capture_output=True, text=True, check=False, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert lines[0]["outcome"] == "read", lines[0]
    return {name: Cost(**line) for name, line in zip(names[1:], lines[1:], strict=True)}


def mutations(ordinary: bytes, count: int, seed: int) -> dict[str, bytes]:
    """Inputs that differ from an ordinary one at random: parts changed, left out, doubled, or repeated to 64 KiB."""
    found: dict[str, bytes] = {}
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        data = bytearray(ordinary)
        for _ in range(rng.choice((1, 1, 3, 20))):
            at = rng.randrange(len(data) + 1)
            end = min(len(data), at + rng.choice((1, 4, 40)))
            match rng.randrange(5):
                case 0:
                    data[at:end] = rng.randbytes(end - at)
                case 1:
                    del data[at:end]
                case 2:
                    data[at:at] = data[at:end]
                case 3:
                    data[at:at] = data[at:end] * (rng.randrange(KILOBYTES * 1024) // max(end - at, 1))
                case _:
                    data[at:end] = rng.choice((b"9" * 400, b"[" * 400, b'"', b"\xff" * 8, b"\0" * 8, b"-1", b"1e999"))
            del data[KILOBYTES * 1024 :]
            if not data:
                data = bytearray(ordinary)
        found[f"mutation {seed}/{number}"] = bytes(data)
    return found


def unbounded(found: Mapping[str, Cost]) -> dict[str, str]:
    """Those that cost too much or broke, for people."""
    return {
        name: f"{cost.size} bytes: {1000 * cost.seconds:.0f} ms, {cost.megabytes:.0f} MB, {cost.outcome[:200]}"
        for name, cost in found.items()
        if not cost.is_bounded
    }


def _known_work() -> float:
    """Processor time of work that has a known one."""
    started = time.process_time()
    for _ in range(20):
        json.loads(json.dumps([{"a": n, "b": [n, str(n)]} for n in range(60)]))
    return time.process_time() - started


def _measured(read: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    """Read in this process, which ends afterwards."""
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_S, _LIMIT_S))
    known = [_known_work() for _ in range(8)]
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is forgotten
    before, started = _memory("VmRSS"), time.process_time()
    try:
        read(path)
        outcome = "read"
    except Exception as error:
        kind = type(error)
        ours = kind.__module__.partition(".")[0] in ("service", "adadim_core", "workers", "fastapi")
        refused = ours or issubclass(kind, OSError) or kind is ValueError
        outcome = f"{'refused' if refused else 'broke'}: {kind.__name__}: {str(error)[:300]}"
    seconds, megabytes = time.process_time() - started, max(_memory("VmHWM") - before, 0.0)
    known += [_known_work() for _ in range(8)]
    seconds /= max(1.0, statistics.median(known) / _KNOWN_SECONDS)
    return {"seconds": seconds, "megabytes": megabytes, "outcome": outcome}


def _memory(name: str) -> float:
    """A line of the process's status, in megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def _forked(read: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    """Measured in a child, whatever becomes of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(_measured(read, path)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if told:
        found: dict[str, Any] = json.loads(told)
        return found
    return {"seconds": float(_LIMIT_S), "megabytes": 0.0, "outcome": f"broke: ended by status {status}"}


def main(reader: str, folder: str, suffix: str, count: str) -> None:
    module, _, name = reader.partition(":")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    read = getattr(importlib.import_module(module), name)
    paths = [Path(folder) / f"{number}{suffix}" for number in range(int(count))]
    print(json.dumps({"size": 0, **_measured_first(read, paths[0])}))
    gc.collect()
    gc.freeze()
    for path in paths[1:]:
        size = path.stat().st_size
        found = {"size": size, **_forked(read, path)}
        for _ in range(2):  # a busy machine may have slowed it down: the least counts
            if not Cost(**found).is_bounded:
                found = min(found, {"size": size, **_forked(read, path)}, key=lambda one: one["seconds"])
        print(json.dumps(found), flush=True)


def _measured_first(read: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    read(path)
    return {"seconds": 0.0, "megabytes": 0.0, "outcome": "read"}


if __name__ == "__main__":
    main(*sys.argv[1:])
