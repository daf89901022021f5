"""Part packing: members of a sweep trained together (gpu_packing.py), beside the other ways to use one card.

For 2, 4, 8 and 16 members of three networks, images a second over all members:
  pack       together, each member a CUDA graph on a stream of its own
  graph      one after the other, each as a CUDA graph
  eager      one after the other, by plain calls
  processes  as many processes at once, by plain calls, that take turns on the card; and each with a graph
The members differ in alpha and learning rate. Batch 256, bfloat16 as by default, LARS.
"""

import contextlib
import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import torch
from gpu_packing import Pack

from adadim_core.building import load_images
from adadim_core.data import ImageDataset
from adadim_core.spec import ExperimentSpec, validate_spec
from gpu.settings import WARM_UP_STEPS, Record, Settings, median_seconds

_BENCHMARKS = Path(__file__).resolve().parents[1]
_NETWORKS = {
    "conv_small": ("conv_small", 64, {"layers": 2, "hidden": 512, "out": 512}),
    "resnet18 width 16": ("resnet18", 16, {}),
    "resnet18 width 64": ("resnet18", 64, {}),
}
_START_SECONDS, _WINDOW_SECONDS = 90.0, 1.0
_PROCESSES_SECONDS = 20.0
"""What building a trial in each of many processes and measuring it takes at most."""


def run(settings: Settings, record: Record) -> None:
    counts = [1, 2] if settings.smoke else [1, 2, 4, 8, 16]
    began = time.monotonic()
    _in_one_process(settings, record, counts)
    with _Processes(settings, counts[-1]) as processes:
        for graphs in (True, False) if settings.cuda else (False,):
            rates: dict[str, dict[str, Any]] = {network: {} for network in _NETWORKS}
            for count in reversed(counts[1:]):  # where time is short, the largest number says most
                for network in _NETWORKS:
                    if time.monotonic() - began > settings.seconds - _PROCESSES_SECONDS:
                        rates[network][str(count)] = "no time left"
                    else:
                        specs = [_spec(settings, network, m, count) for m in range(count)]
                        rates[network][str(count)] = processes.images_per_s(specs, graphs=graphs)
                    record.put(f"{network}: processes{', each with a graph' if graphs else ''}", rates[network])


def _in_one_process(settings: Settings, record: Record, counts: list[int]) -> None:
    data = load_images(_spec(settings, "conv_small", 0, 1).data).to(torch.device(settings.device))
    for network in _NETWORKS:
        if settings.cuda:
            record.attempt(f"{network}: same as alone", lambda n=network: _same(settings, n, data))
        for graphs in (True, False) if settings.cuda else (False,):
            kind = "graph" if graphs else "eager"
            record.attempt(
                f"{network}: {kind} alone", lambda n=network, g=graphs: _together(settings, n, [1], data, g)["1"]
            )
        record.attempt(f"{network}: pack", lambda n=network: _together(settings, n, counts[1:], data, settings.cuda))
    if settings.cuda:
        torch.cuda.empty_cache()


def _spec(settings: Settings, network: str, member: int, members: int) -> ExperimentSpec:
    backbone, width, projector = _NETWORKS[network]
    share = (member + 1) / (members + 1)
    return validate_spec(
        {
            "name": f"member-{member}",
            "data": settings.data(),
            "model": settings.model(backbone, width, **({} if settings.smoke else projector)),
            "objective": {"weighting": {"policy": "fixed", "alpha": share}},
            "training": {
                "epochs": 100_000,
                "batch_size": 16 if settings.smoke else 256,
                "precision": settings.precision,
                "lr": 0.1 * (1 + share),
            },
        }
    )


def _together(settings: Settings, network: str, counts: list[int], data: ImageDataset, graphs: bool) -> dict[str, Any]:
    """Images a second over all members, by their number; the largest pack first, then with fewer and fewer."""
    rates: dict[str, Any] = {}
    pack: Pack | None = None
    for count in sorted(counts, reverse=True):
        try:
            if pack is None:
                specs = [_spec(settings, network, m, count) for m in range(count)]
                pack = Pack(specs, device=settings.device, data=data, graphs=graphs)
            pack.keep(count)
            rates[str(count)] = _rate(settings, pack, graphs)
        except torch.OutOfMemoryError:
            rates[str(count)] = "out of memory"
            pack = None
            torch.cuda.empty_cache()
    del pack
    if settings.cuda:
        torch.cuda.empty_cache()
    return rates


def _rate(settings: Settings, pack: Pack, graphs: bool) -> float:
    steps = 1 if settings.smoke else 10
    _warm_up(pack, graphs)
    seconds = median_seconds(settings, lambda: pack.train_steps(steps), rounds=1 if settings.smoke else 3)
    batch = pack.members[0].spec.training.batch_size
    return steps * batch * len(pack.members) / seconds[len(seconds) // 2]


def _warm_up(pack: Pack, graphs: bool) -> None:
    """Raises RuntimeError where graphs were wanted and a member goes on without: its speed is no graph's."""
    pack.train_steps(WARM_UP_STEPS)
    if graphs and not pack.replays:
        raise RuntimeError("a member's step was not recorded as a CUDA graph")


def _same(settings: Settings, network: str, data: ImageDataset) -> dict[str, Any]:
    """Relative differences of the weights after some steps, between a pack of three and each of its members alone."""
    members, steps = 3, 10
    specs = [_spec(settings, network, m, members) for m in range(members)]
    together = _weights(Pack(specs, device=settings.device, data=data), steps)
    ways = {"a graph alone": True, "plain calls alone": False, "plain calls once more": False}
    alone = {
        name: [_weights(Pack([spec], device=settings.device, data=data, graphs=graphs), steps)[0] for spec in specs]
        for name, graphs in ways.items()
    }
    return {
        "a pack to a graph alone": _distance(together, alone["a graph alone"]),
        "a pack to plain calls alone": _distance(together, alone["plain calls alone"]),
        "plain calls to themselves": _distance(alone["plain calls alone"], alone["plain calls once more"]),
    }


def _distance(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """The largest relative difference of two members' weights; that of equal ones is 0."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(some, others, strict=True))


def _weights(pack: Pack, steps: int) -> list[torch.Tensor]:
    """All parameters of each member, in one vector."""
    pack.train_steps(steps)
    if pack.device.type == "cuda":
        torch.cuda.synchronize()
    return [torch.cat([p.detach().flatten() for p in m.model.parameters()]) for m in pack.members]


class _Processes:
    """Processes that train one member each, at the same time."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        command = [sys.executable, "-c", "from gpu.packing import serve; serve()"]
        self._processes = [
            subprocess.Popen(command, cwd=_BENCHMARKS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def images_per_s(self, specs: list[ExperimentSpec], *, graphs: bool) -> Any:
        """Sum over the processes, each training for the same moment; or what went wrong."""
        chosen = self._processes[: len(specs)]
        for process, spec in zip(chosen, specs, strict=True):
            self._tell(process, {"device": self._settings.device, "graphs": graphs, "spec": spec.model_dump_json(),
                                 "seconds": 0.1 if self._settings.smoke else _WINDOW_SECONDS})  # fmt: skip
        answers = [self._hear(process) for process in chosen]
        for process in chosen:
            self._tell(process, "go")
        answers = [answer if "error" in answer else self._hear(process)
                   for process, answer in zip(chosen, answers, strict=True)]  # fmt: skip
        errors = [answer["error"] for answer in answers if "error" in answer]
        return errors[0] if errors else sum(answer["images_per_s"] for answer in answers)

    @staticmethod
    def _tell(process: "subprocess.Popen[str]", message: Any) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def _hear(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        at_most = self._settings.at_most(_START_SECONDS)
        ready, _, _ = select.select([process.stdout], [], [], at_most)
        line = process.stdout.readline() if ready else ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "a process ended or did not answer"}
        return answer


def serve() -> None:
    """One of the processes: gets a trial, says that it is ready, trains for the given time when told to."""
    data: ImageDataset | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            spec = validate_spec(json.loads(order["spec"]))
            data = data or load_images(spec.data).to(torch.device(order["device"]))
            pack = Pack([spec], device=order["device"], data=data, graphs=order["graphs"])
            _warm_up(pack, order["graphs"])
            _synchronize(pack)
            print(json.dumps({"ready": True}), flush=True)
            sys.stdin.readline()
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < order["seconds"]:
                pack.train_steps(2)
                _synchronize(pack)
                steps += 2
            batch = pack.members[0].spec.training.batch_size
            answer = {"images_per_s": steps * batch / (time.perf_counter() - began)}
            del pack
        except Exception as error:  # noqa: BLE001 - the other process hears of it
            answer = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(json.dumps(answer), flush=True)


def _synchronize(pack: Pack) -> None:
    if pack.device.type == "cuda":
        torch.cuda.synchronize()
