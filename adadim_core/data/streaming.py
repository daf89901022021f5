"""Images decoded by threads: all at once into one tensor, or batch after batch, ahead of the reader.

Threads, not processes: decoding lets other threads run, nothing is copied or pickled, it works in processes that may
not start children, and a killed run leaves nothing behind.

The result depends only on the requested rows: not on threads, nor on earlier reads.
"""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch
from torch import Tensor

from adadim_core.data.sources import ArrayImages, ImageSource

AHEAD = 3
"""Batches that are decoded, or being decoded, while the reader works on one. Bounds the memory of a stream."""

_TASK = 32
_SMALL = 96 * 96


class StreamedImages:
    """(N, C, H, W) uint8 images that are decoded when they are requested. Holds no pixels."""

    device = torch.device("cpu")

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.shape = torch.Size(source.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images of these rows, now."""
        return decode_rows(self.source, rows.tolist())

    def batches(self, rows: Iterable[Tensor], *, pin: bool = False) -> Generator[Tensor, None, None]:
        """The images of each batch of rows, in order, decoded ahead. Close it, or exhaust it, to end the threads.

        Args:
            rows: indices of each batch.
            pin: use page-locked memory, from which a GPU copies without the host waiting.

        Raises:
            DataError: an image cannot be read; earlier batches have been returned.
        """
        waiting = iter(rows)
        started: deque[tuple[Tensor, list[Future[None]]]] = deque()
        with _Pool(self.source) as pool:
            while True:
                while len(started) < AHEAD and (batch := next(waiting, None)) is not None:
                    started.append(pool.start(batch.tolist(), pin=pin))
                if not started:
                    return
                images, parts = started.popleft()
                for part in parts:
                    part.result()
                yield images


def decode_rows(source: ImageSource, rows: list[int]) -> Tensor:
    """(n, C, H, W): these images of a source."""
    with _Pool(source) as pool:
        images, parts = pool.start(rows)
        for part in parts:
            part.result()
    return images


class _Pool:
    """Decoding threads. Leaving it ends them; work not begun is dropped."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        # As many as torch may use, which is what the trial was given; a second one works while the first waits for
        # the disk. Small images are mostly Python, which more threads only slow down.
        threads = max(2, torch.get_num_threads())
        small = isinstance(source, ArrayImages) and source.shape[2] * source.shape[3] <= _SMALL
        self._threads = ThreadPoolExecutor(2 if small else threads, thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def start(self, rows: list[int], *, pin: bool = False) -> tuple[Tensor, list[Future[None]]]:
        """A tensor, and the tasks that fill it."""
        images = torch.empty((len(rows), *self._source.shape[1:]), dtype=torch.uint8, pin_memory=pin)
        starts = range(0, len(rows), _TASK)
        return images, [self._threads.submit(self._fill, images, rows, start) for start in starts]

    def _fill(self, images: Tensor, rows: list[int], start: int) -> None:
        pixels_NCHW = images.numpy()
        for place in range(start, min(start + _TASK, len(rows))):
            pixels_NCHW[place] = self._source.image(rows[place])
