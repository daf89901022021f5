"""Random numbers named by their purpose, so that any moment of a run can be recomputed without its past."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments: `generator(seed, "augmentation", step)`."""
    return torch.Generator().manual_seed(_number(seed, *purpose))


@contextmanager
def seeded(device: torch.device, seed: int, *purpose: str | int) -> Iterator[None]:
    """Within it, torch's own random numbers on the CPU and the device depend on the arguments only, as in `generator`.

    For code that draws without taking a generator: initial weights, dropout. The state outside is restored.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        number = _number(seed, *purpose)
        torch.default_generator.manual_seed(number)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        yield


def _number(*purpose: str | int) -> int:
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
