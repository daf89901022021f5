"""The reports of a trial: measurements on their way to the listener, the last value of each metric, the clock.

Owns when a measurement is read and how it is reported, including the flag of the collapse watch. Does not own what is
measured (measurement) or when (trainer).
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from adadim_core import distributed
from adadim_core.collapse import CollapseWatch
from adadim_core.gpu_usage import GpuUsage
from adadim_core.measurement import Measurement
from adadim_core.spec.sections import CollapseSpec

ReportFn = Callable[[int, float, Mapping[str, float]], None]
"""Takes (step, epoch, values): steps done, the same in epochs, and measurements by canonical metric name."""


def ignore(step: int, epoch: float, values: Mapping[str, float]) -> None:
    """A report function that does nothing."""


@dataclass(frozen=True)
class _Read:
    """A measurement that has been read."""

    values: dict[str, float]
    arrived: float
    """When the device had done the step, by the clock of `images_per_s`."""


@dataclass(frozen=True)
class _Pending:
    """A measurement that the device may not have finished, or whose eigenvalues the host is computing."""

    step: int
    read: "Future[_Read]"
    settings: Mapping[str, float]
    """What the host knew of that step."""
    images: int
    """Trained since the measurement before."""


class Reports:
    """Passes measurements on, by rank 0 only, and keeps the last value of every metric."""

    def __init__(self, report: ReportFn, collapse: CollapseSpec, *, steps_per_epoch: int, device: torch.device) -> None:
        self.usage = GpuUsage(device)
        self._report = report
        self._steps_per_epoch = steps_per_epoch
        self._device = device
        self._all_must_agree = collapse.stop
        self.collapse = CollapseWatch(collapse)
        self.last: dict[str, float] = {}
        """The last value of every metric."""
        self.late = device.type == "cuda"
        """Whether measurements are read by a thread beside the steps that follow. They would leave the device without
        work: the host would wait for it first, and it for the host's eigenvalues then."""
        self._reader: ThreadPoolExecutor | None = None
        self._pending: _Pending | None = None
        self._images = 0
        self._clock = time.perf_counter()

    def restart_clock(self) -> None:
        """Exclude the time before now from `images_per_s`."""
        self._images = 0
        self._clock = time.perf_counter()

    def count(self, images: int) -> None:
        """Count images that were trained on."""
        self._images += images

    def take(self, step: int, measurement: Measurement, settings: Mapping[str, float]) -> None:
        """Report a measurement of a step, now or, if reports are delayed, in a later call of `settle`.

        Args:
            step: steps done.
            measurement: of that step.
            settings: the values of that step that the host knows, by metric name.
        """
        self.settle()
        self._pending = _Pending(step, self._start_reading(measurement), settings, self._images)
        self._images = 0
        if not self.late:
            self.settle()

    def settle_if_read(self) -> None:
        """Publish the pending measurement, if any, unless that means waiting for it.

        A trial that stops on its collapse waits: all its processes must stop at one step, the same in each run.
        """
        if self._pending is not None and (self._all_must_agree or self._pending.read.done()):
            self.settle()

    def settle(self) -> None:
        """Publish the pending measurement, if any."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        read = pending.read.result()
        values = read.values | dict(pending.settings)
        values |= {"images_per_s": pending.images / (read.arrived - self._clock), **self.usage.take()}
        self._clock = read.arrived
        self.publish(pending.step, self.watched(pending.step, values))

    def _start_reading(self, measurement: Measurement) -> "Future[_Read]":
        def read() -> _Read:
            measurement.wait()
            arrived = time.perf_counter()
            return _Read(measurement.values(), arrived)

        if not self.late:
            done: Future[_Read] = Future()
            done.set_result(read())
            return done
        if self._reader is None:  # its thread ends with this object
            threads = torch.get_num_threads()
            self._reader = ThreadPoolExecutor(1, "measurements", torch.set_num_threads, (threads,))
        return self._reader.submit(read)

    def watched(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Pass the values through the collapse watch, which adds its flag if it raises it."""
        rank = values["erank_r"]
        if self._all_must_agree:  # all must end at one step; asking would make a GPU's host wait
            rank = distributed.broadcast_float(rank, self._device)
        return values | {"collapsed": 1.0} if self.collapse.observe(step, rank) else values

    def publish(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values as the last ones and tell the listener."""
        self.last.update(values)
        if distributed.rank() == 0:
            self._report(step, step / self._steps_per_epoch, values)
