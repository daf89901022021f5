"""Part product: sweeps through Ray and through the service, on the card.

Four trials at once on a quarter of the card each, one of whose processes is killed on the way; trials that take the
whole card one after the other; the service with its embedded PostgreSQL, from REST to the results; where there are
two cards, a trial of two processes. What is checked: every trial succeeds, the killed one goes on from its checkpoint,
and processes that compute on the card are seen there.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import torch

from adadim.client import Client, ClientError
from adadim.connection import open_client
from gpu.processes import end, start_workers
from gpu.settings import Record, Settings
from workers.storage.spool import SpoolReader

_ROOT = Path(__file__).resolve().parents[2]
_WEIGHTINGS = [*({"policy": "fixed", "alpha": alpha} for alpha in (0.0, 0.5, 1.0)), {"policy": "adaptive"}]


class ProductError(Exception):
    """The product did not do what it should."""


def run(settings: Settings, record: Record) -> None:
    cases: dict[str, Callable[[Settings], dict[str, Any]]] = {
        "service": _service,
        "four trials at once, one killed": _four_at_once,
        "one trial at a time": _one_at_a_time,
        "two processes with NCCL": _two_processes,
    }
    failed = [name for name, case in cases.items() if not record.attempt(name, lambda c=case: c(settings))]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _document(settings: Settings, share: float, trials: int, *, epochs: int, workers: int = 1) -> dict[str, Any]:
    network = settings.model("conv_small" if settings.smoke else "resnet18", 64 if settings.smoke else 16)
    return {
        "name": "card",
        "data": settings.data(),
        "model": network,
        "training": {"epochs": epochs, "warmup_epochs": 0, "batch_size": 64 if settings.smoke else 256,
                     "optimizer": "adamw", "lr": 1e-3},
        "evaluation": {"every_epochs": max(1, epochs // 5)},
        "resources": {"gpus_per_worker": share if settings.cuda else 0, "workers": workers},
        "search": {"algorithm": "grid", "space": {"objective.weighting": {"choice": _WEIGHTINGS[:trials]}}},
    }  # fmt: skip


def _four_at_once(settings: Settings) -> dict[str, Any]:
    """A sweep at a quarter of the card a trial; SIGKILL to one trial's process once it has a checkpoint."""
    # Some seconds of training: a trial that is over before its process is killed shows nothing.
    epochs = 6 if not settings.smoke else 1000 if settings.cuda else 100
    document = _document(settings, 0.25, 4, epochs=epochs)
    with _workers(settings, document, "quarters") as (process, storage, output):
        checkpoint = storage / "trials" / "0000" / "checkpoint.pt"
        _until(checkpoint.exists, process, settings.at_most(90), "a checkpoint of trial 0", output)
        victim = _trial_process(process, storage)
        victim.kill()
        found = _finish(process, storage, output, settings.at_most(240))
    spools = [SpoolReader(file).read(1000)[0] for file in (storage / "points").glob("0000-*.jsonl")]
    first = sorted(points[0].step for points in spools if points)
    if first[0] != 0 or len(first) < 2 or first[1] == 0:
        raise ProductError(f"the killed trial began again: first points of its processes at steps {first}")
    return {**found, "first points of trial 0's processes at steps": first}


def _one_at_a_time(settings: Settings) -> dict[str, Any]:
    """A sweep whose trials take the whole card."""
    document = _document(settings, 1, 2, epochs=2)
    with _workers(settings, document, "whole") as (process, storage, output):
        return _finish(process, storage, output, settings.at_most(180))


def _two_processes(settings: Settings) -> dict[str, Any]:
    """One trial over two cards."""
    cards = torch.cuda.device_count() if settings.cuda else 0
    if cards < 2:
        return {"skipped": f"needs two cards, there are {cards}"}
    document = _document(settings, 1, 1, epochs=2, workers=2)
    with _workers(settings, document, "two") as (process, storage, output):
        return _finish(process, storage, output, settings.at_most(180))


def _service(settings: Settings) -> dict[str, Any]:
    """A sweep by REST: submitted, dispatched, trained, and its results read through the API."""
    state = settings.work / "state"
    state.mkdir()
    os.environ |= {"ADADIM_STATE_DIR": str(state), "ADADIM_PORT": "0"}
    with (state / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "service.cli.main", "serve"], stdout=log, stderr=log, cwd=_ROOT
        )
    try:
        began = time.monotonic()
        log_file = state / "service.log"
        client = _until(_connected, service, settings.at_most(90), "the service is ready", log_file)
        ready = time.monotonic() - began
        with client, _Watch(settings) as watch:
            number = client.submit(json.dumps(_document(settings, 0.5, 2, epochs=3)))["id"]
            ended = ("succeeded", "failed", "cancelled")
            _until(
                lambda: client.experiment(number)["state"] in ended, service, settings.at_most(180),
                "the sweep has ended", log_file,
            )  # fmt: skip
            trials = client.trials(number)
            found = client.experiment(number)
            points = client.metrics(number, ["h_r", "i_rz"])["series"]
        states = [trial["state"] for trial in trials]
        if states != ["succeeded"] * 2:
            raise ProductError(
                f"the trials ended {states}: {found.get('error')}; {''.join(client.logs(number))[-600:]}"
            )
        return {
            "ready_s": ready,
            "experiment_s": time.monotonic() - began - ready,
            "trials": [{name: trial.get(name) for name in ("number", "state", "latest")} for trial in trials],
            "series": len(points),
            **watch.found(),
        }
    finally:
        service.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.wait(30)
        end(service)


def _connected() -> Client | None:
    with contextlib.suppress(ClientError):
        client = open_client()
        if client.is_ready():
            return client
    return None


@contextlib.contextmanager
def _workers(
    settings: Settings, document: dict[str, Any], name: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Path, Path]]:
    """`python -m workers` on a Ray cluster of its own. Gives process, storage and the file of its output."""
    storage = settings.work / name
    process, output = start_workers(document, storage)
    watch = _Watch(settings)
    try:
        with watch:
            process.watch = watch  # type: ignore[attr-defined]
            yield process, storage, output
    finally:
        end(process)


def _finish(process: "subprocess.Popen[bytes]", storage: Path, output: Path, seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    _until(lambda: process.poll() is not None, None, seconds, "the run has ended", output)
    if process.returncode:
        raise ProductError(f"exit code {process.returncode}: {output.read_text()[-800:]}")
    trials = json.loads((storage / "results.json").read_text())["trials"]
    states = [trial["state"] for trial in trials]
    if set(states) != {"succeeded"}:
        raise ProductError(f"the trials ended {states}")
    shown = ("h_r", "i_rz", "knn_top1", "images_per_s")
    return {
        "trials": [{name: trial["metrics"].get(name) for name in shown} for trial in trials],
        "waited_s": time.monotonic() - began,
        "trials_without_graph": sum(
            "not replayed as a CUDA graph" in log.read_text() for log in storage.glob("trials/*/log.txt")
        ),
        **process.watch.found(),  # type: ignore[attr-defined]
    }


def _trial_process(process: "subprocess.Popen[bytes]", storage: Path) -> psutil.Process:
    """The process that trains trial 0, as the trial's log names it."""
    log = (storage / "trials" / "0000" / "log.txt").read_text()
    pid = int(log.rsplit(" process ", 1)[1].split(":", 1)[0])
    ours = {child.pid: child for child in psutil.Process(process.pid).children(recursive=True)}
    return ours[pid]


def _until(condition: Callable[[], Any], process: Any, seconds: float, what: str, log: Path) -> Any:
    """Wait until the condition holds, the process still running."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            tail = log.read_text()[-800:] if log.exists() else ""
            raise ProductError(f"not within {seconds:.0f} s, or its process ended: {what}; {tail}")
        time.sleep(0.1)  # between two looks at another process
    return value


def _is_trial(pid: int) -> bool:
    """Whether it is a process of Ray's: the core's tests are on the card at the same time."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).name().startswith("ray::")
    return False


class _Watch:
    """Looks at the card while something runs: how many processes compute on it, and how much memory is taken."""

    def __init__(self, settings: Settings) -> None:
        self._cuda = settings.cuda
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._processes = 0
        self._memory = 0
        self._error = ""

    def __enter__(self) -> Self:
        if self._cuda:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._cuda:
            self._thread.join()

    def found(self) -> dict[str, Any]:
        if not self._cuda:
            return {"card": "none: a smoke run on a CPU"}
        if self._error:
            return {"card": f"could not be watched: {self._error}"}
        return {"processes_on_card_at_once": self._processes, "memory_gib": self._memory / 2**30}

    def _look(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not self._stop.wait(0.25):
                seen = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(card)]
                self._processes = max(self._processes, sum(map(_is_trial, seen)))
                self._memory = max(self._memory, pynvml.nvmlDeviceGetMemoryInfo(card).used)
        except Exception as error:  # noqa: BLE001 - the run goes on unwatched
            self._error = str(error)
