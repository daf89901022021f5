"""How much of a GPU a trial uses: memory and time, sampled by a thread beside the training loop.

Owns the samples. Does not own when they are reported (reports). On the CPU there is nothing to sample.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_SECONDS = 1.0
"""Between two samples; NVML looks back over about as long."""


class GpuUsage:
    """Samples of a device since they were last asked for."""

    def __init__(
        self,
        device: torch.device,
        *,
        memory: Callable[[torch.device], int] = torch.cuda.memory_reserved,
        utilization: Callable[[torch.device], int] = torch.cuda.utilization,
    ) -> None:
        """
        Args:
            device: what is sampled.
            memory: bytes that this process holds of it.
            utilization: percent of the last sampling period in which it was busy; raises if it cannot be measured.
        """
        self._device = device
        self._memory_of = memory
        self._utilization_of: Callable[[torch.device], int] | None = utilization
        self._lock = threading.Lock()
        self._memory = 0
        self._busy: list[int] = []

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Within it, the device is sampled once a second."""
        if self._device.type != "cuda":
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._sample_until, args=(ended,), name="gpu-usage", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def take(self) -> dict[str, float]:
        """Values since the last call, by metric name: peak memory, mean share of time at work.

        Values that could not be measured are left out.
        """
        with self._lock:
            memory, busy = self._memory, self._busy
            self._memory, self._busy = 0, []
        values = {"gpu_memory": memory / 2**30} if memory else {}
        return values | ({"gpu_utilization": sum(busy) / len(busy) / 100} if busy else {})

    def _sample_until(self, ended: threading.Event) -> None:
        while True:
            self._sample()
            if ended.wait(_SECONDS):
                return

    def _sample(self) -> None:
        memory, busy = self._memory_of(self._device), self._ask()
        with self._lock:
            self._memory = max(self._memory, memory)
            self._busy += [] if busy is None else [busy]

    def _ask(self) -> int | None:
        """Percent at work; None, and never asked again, if NVML is not installed or gives no value."""
        if self._utilization_of is None:
            return None
        try:
            return self._utilization_of(self._device)
        except Exception:  # noqa: BLE001 - NVML has errors of its own, which only its package names
            self._utilization_of = None
            return None
