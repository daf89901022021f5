"""A training step replayed as one CUDA graph: recorded once, then launched as a whole, so that small kernels do not
wait for the host.

Owns when a step is recorded, inputs and outputs of a recording, the check that it computes the same as the step, and
the fallback. Does not own the step.

A recording has fixed addresses: views, alpha, beta and the learning rate are copied into tensors of its own, and what
it returns is overwritten by the next replay.
"""

import gc
import logging
import math
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from adadim_core import distributed
from adadim_core.accumulation import split_views
from adadim_core.batch_norm import frozen_statistics
from adadim_core.objective import Weight
from adadim_core.precision import autocast
from adadim_core.step import EmbeddedBatch, StepSettings, TrainingStep
from adadim_core.transfer import send

logger = logging.getLogger(__name__)

_STEPS_BEFORE = 2
"""Ordinary steps before a recording: libraries choose their algorithms and optimisers make their state in them."""
_TOLERANCE = 0.2
"""Largest relative difference of loss and update between a step and its first replay. Rounding leaves less, even where
AdamW brings the noise of a gradient of nothing to full size; what misses an input differs by its whole size."""


class Record(Protocol):
    """Records what a function does on the device."""

    def __call__(self, function: Callable[[], EmbeddedBatch]) -> tuple[EmbeddedBatch, Callable[[], None]]:
        """The function's result, and a way to repeat it on the values its inputs then hold."""


def record_cuda_graph(function: Callable[[], EmbeddedBatch]) -> tuple[EmbeddedBatch, Callable[[], None]]:
    """Record a function as a CUDA graph on the current stream, without running it. A replay runs on the stream that is
    current then.

    Other threads may use the device meanwhile. Memory that the function allocates stays allocated as long as the
    recording.
    """
    gc.collect()  # an autograd graph that is still alive would take the recording to the stream that it was made on
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = function()
    except BaseException:
        _clear_up(stream.device.index, pool)
        raise
    return outputs, graph.replay


_broken_off = threading.Event()
"""A recording of this process broke off. What it had allocated is lost, so that no other is tried."""


def _clear_up(device: int, pool: Any) -> None:
    """After a recording that broke off: let memory that was freed meanwhile be used again, and random numbers be drawn.

    PyTorch ends neither where the driver ends a recording, and has no public way to end the first.
    """
    _broken_off.set()
    with suppress(RuntimeError, AttributeError):  # ended already, or under another name
        torch._C._cuda_endAllocateToPool(device, pool)
    _renew_generator()


def _renew_generator() -> None:
    """Give the device's generator a new state: after a recording that broke off the old one refuses to draw."""
    default = torch.cuda.default_generators[torch.cuda.current_device()]
    default.graphsafe_set_state(torch.Generator(default.device).graphsafe_get_state())


class ReplayedStep:
    """Runs the steps of a trial, after the first few by replay. A step that cannot be replayed runs without it.

    One recording for each combination of losses that have a weight: a policy that starts at alpha 0 has two. Steps
    before a recording take their settings from the same tensors as replays do, so that both compute the same.
    """

    def __init__(self, step: TrainingStep, record: Record = record_cuda_graph) -> None:
        self._step = step
        self._record = record
        self._settings = torch.zeros(3, device=step.device)
        """alpha, beta and learning rate of the step under way."""
        self._seen: Counter[_Pattern] = Counter()
        self._recordings: dict[_Pattern, _Recording] = {}
        self._off = False
        self.stream: torch.cuda.Stream | None = None
        """What all steps run on, before a recording too: autograd sums gradients on the stream of the first backward
        pass, and a recording that had to leave its own stream for that would break off. A recording cannot be made on
        the default stream."""
        if step.device.type == "cuda":
            self.stream = torch.cuda.Stream(step.device)  # type: ignore[no-untyped-call]

    def run(self, views: Tensor, settings: StepSettings, *, step: int) -> EmbeddedBatch:
        """As `TrainingStep.run`, with R. The result is valid until the next call."""
        if self.stream is None or self.stream == torch.cuda.current_stream(self.stream.device):
            return self._run(views, settings, step=step)
        # Each waits for the other, so that memory which one frees is not taken up by the other too early.
        outside = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            batch = self._run(views, settings, step=step)
        outside.wait_stream(self.stream)
        return batch

    def _run(self, views: Tensor, settings: StepSettings, *, step: int) -> EmbeddedBatch:
        numbers = torch.tensor([settings.alpha, settings.beta, settings.lr])
        self._settings.copy_(send(numbers, self._settings.device))
        pattern = _Pattern.of(settings)
        recording = self._recordings.get(pattern)
        if recording is not None:
            return recording.run(views)
        self._seen[pattern] += 1
        if self._off or self._seen[pattern] <= _STEPS_BEFORE:
            return self._ordinary(views, pattern, step)
        try:
            self._recordings[pattern], batch = self._recorded(views, pattern, step)
            return batch
        except Exception as error:  # noqa: BLE001 - whatever the driver raises, the trial goes on
            self._off = True
            reason = _first_reason(error)
            logger.warning("the training step is not replayed as a CUDA graph, it runs as it is: %s", reason)
        gc.collect()  # what the recording had allocated is needed now
        return self._ordinary(views, pattern, step)

    @property
    def replays(self) -> bool:
        """Whether a step has been recorded, so that steps like it are replayed."""
        return bool(self._recordings)

    def forget(self) -> None:
        """Drop the recordings: the optimiser's state was replaced."""
        self._recordings.clear()
        self._seen.clear()

    def _ordinary(self, views: Tensor, pattern: "_Pattern", step: int | None) -> EmbeddedBatch:
        """The step with its settings from tensors; without a number, as it can be recorded."""
        alpha, beta, lr = self._settings.unbind()
        with _learning_rate(self._step.optimizer, lr, recording=step is None):
            return self._step.compute(views, *pattern.weights(alpha, beta), step=step)

    def _recorded(self, views: Tensor, pattern: "_Pattern", step: int) -> tuple["_Recording", EmbeddedBatch]:
        """A recording that computes what the step computes, and its result for this batch."""
        reason = why_not_replayed(self._step, views)
        if reason is not None:
            raise RuntimeError(reason)
        before = _snapshot(self._step)
        try:
            ordinary = self._ordinary(views, pattern, step)
            expected = _After(_snapshot(self._step), ordinary.terms.total)
            _restore(self._step, before)
            own_views = views.clone()
            self._step.optimizer.zero_grad(set_to_none=True)
            outputs, replay = self._record(lambda: self._ordinary(own_views, pattern, None))
            self._step.optimizer.zero_grad(set_to_none=True)  # the recording keeps its own
            recording = _Recording(own_views, outputs, replay)
            batch = recording.run(views)
            difference = _difference(before, expected, _After(_state(self._step), batch.terms.total))
            if not difference <= _TOLERANCE:
                raise RuntimeError(f"the first replay differs from the step by {difference:.2g} of its size")
        except BaseException:
            _restore(self._step, before)
            raise
        return recording, batch


def _first_reason(error: BaseException) -> str:
    """What came first: ending a recording that broke off raises an error of its own. The frames of all of them let go
    of what they hold, which is all that the recording had computed."""
    first: BaseException | None = error
    while first is not None:
        cause, first = first, first.__context__
        traceback.clear_frames(cause.__traceback__)
    return (str(cause) or type(cause).__name__).splitlines()[0]


@dataclass(frozen=True)
class _Pattern:
    """Which losses have a weight, and so are part of the graph."""

    alpha: float | None
    """Where it is 0 or 1."""
    information: bool

    @classmethod
    def of(cls, settings: StepSettings) -> "_Pattern":
        return cls(settings.alpha if settings.alpha in (0, 1) else None, settings.beta != 0)

    def weights(self, alpha: Tensor, beta: Tensor) -> tuple[Weight, Weight]:
        """As the objective takes them: weights of 0 and 1 as numbers."""
        return alpha if self.alpha is None else self.alpha, beta if self.information else 0.0


@dataclass(frozen=True)
class _Recording:
    """A recorded step, the views that it reads and its result."""

    views: Tensor
    outputs: EmbeddedBatch
    replay: Callable[[], None]

    def run(self, views: Tensor) -> EmbeddedBatch:
        self.views.copy_(views)
        self.replay()
        return self.outputs


def why_not_replayed(step: TrainingStep, views: Tensor) -> str | None:
    """The reason why this step cannot be replayed; None: none is known."""
    information = step.spec.objective.mutual_information
    if _broken_off.is_set():
        return "an earlier recording of this process broke off"
    if distributed.world_size() > 1:
        return "several processes train together"
    if information.gamma and information.order != 2:
        return f"I(R;Z) of order {information.order:g} in the loss needs eigenvalues, for which the host waits"
    if _draws_at_random(step, views):
        return "the network draws random numbers, which are named by the step"
    return None


@contextmanager
def _learning_rate(optimizer: torch.optim.Optimizer, lr: Tensor, *, recording: bool) -> Iterator[None]:
    """Within it, the learning rate is a tensor, and optimisers that distinguish it know of the recording."""
    saved = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = lr
        if recording and "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, saved, strict=True):
            group.update(before)


def _draws_at_random(step: TrainingStep, views: Tensor) -> bool:
    """Whether a forward pass of the network moves the device's random numbers."""
    on_gpu = views.device.type == "cuda"
    with torch.random.fork_rng(devices=[views.device] if on_gpu else []):

        def state() -> Tensor:
            return torch.cuda.get_rng_state(views.device) if on_gpu else torch.get_rng_state()

        before = state()
        # With gradients and of the usual size: for another kind of pass a compiler would compile again.
        with frozen_statistics(step.model), autocast(step.device, step.dtype):
            step.model.train()(split_views(views, step.spec.training.accumulate)[0])
        return not torch.equal(before, state())


def _state(step: TrainingStep) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Every tensor that a step changes: weights, statistics, what the optimiser keeps."""
    kept = [value for state in step.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [p.detach() for p in step.model.parameters()], list(step.model.buffers()), kept


def _snapshot(step: TrainingStep) -> tuple[list[Tensor], ...]:
    return tuple([tensor.clone() for tensor in tensors] for tensors in _state(step))


@torch.no_grad()
def _restore(step: TrainingStep, saved: tuple[list[Tensor], ...]) -> None:
    for tensor, before in zip(chain(*_state(step)), chain(*saved), strict=True):
        tensor.copy_(before)


@torch.no_grad()
def _difference(before: tuple[list[Tensor], ...], expected: "_After", found: "_After") -> float:
    """The largest relative difference of the loss and of the changes of weights, statistics and optimiser state.

    Infinite where one of them is not finite: a NaN compares as neither larger nor smaller.
    """
    numbers = [expected.loss.double(), (found.loss - expected.loss).double()]
    for old, wanted, new in zip(before, expected.state, found.state, strict=True):
        numbers += [_distance(old, wanted), _distance(wanted, new)]
    sizes: list[float] = torch.stack(numbers).tolist()
    if math.isnan(sizes[0]) and math.isnan(found.loss.item()):
        return 0.0  # training diverged, in both
    if not all(map(math.isfinite, sizes)):
        return math.inf
    return max(abs(off) / max(abs(size), 1e-30) for size, off in zip(sizes[::2], sizes[1::2], strict=True))


def _distance(x: list[Tensor], y: list[Tensor]) -> Tensor:
    lengths = [torch.linalg.vector_norm((b - a).double()) for a, b in zip(x, y, strict=True)]
    distance: Tensor = torch.linalg.vector_norm(torch.stack(lengths))
    return distance


@dataclass(frozen=True)
class _After:
    """What a step leaves."""

    state: tuple[list[Tensor], ...]
    loss: Tensor
