"""Tensors on their way to a GPU without the host waiting for it: from page-locked memory, ahead of their use.

Owns how bytes get to the device. Does not own which ones.
"""

from collections import deque
from collections.abc import Generator, Iterable

import torch
from torch import Tensor

_AHEAD = 2
"""Batches under way or waiting on the device while one is worked on: one hides its copy, one an uneven reader."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. The host does not wait, neither for the copy nor for work queued before it.

    Copies from pageable memory make the host wait until the device has caught up; those from page-locked memory do not.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor if tensor.is_pinned() else tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def send_ahead(batches: Iterable[Tensor], device: torch.device) -> Generator[Tensor, None, None]:
    """Batches on the device, in order, each sent while earlier ones are processed.

    On a GPU copies run on a stream of their own, beside the computation. On the CPU nothing is read ahead.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting = iter(batches)
    sent: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    while True:
        while len(sent) < _AHEAD and (stored := next(waiting, None)) is not None:
            with torch.cuda.stream(stream):
                copy = send(stored, device)
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record(stream)
            sent.append((copy, arrived))
        if not sent:
            return
        copy, arrived = sent.popleft()
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)
        copy.record_stream(current)  # its memory was allocated on the other stream, and must not go back too early
        yield copy
