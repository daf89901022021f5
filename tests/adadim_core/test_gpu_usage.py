"""Memory and utilisation of a GPU, sampled beside the loop and reported with the measurements."""

import threading

import pytest
import torch

from adadim_core import gpu_usage
from adadim_core.gpu_usage import GpuUsage
from adadim_core.trainer import Trainer

GPU = torch.device("cuda", 0)
GIB = 2**30


class Card:
    """Tells of a GPU and counts how often it was asked."""

    def __init__(self, memory, busy):
        self._memory, self._busy = iter(memory), iter(busy)
        self.asked = threading.Semaphore(0)
        self.questions = 0

    def memory(self, device):
        assert device == GPU
        return next(self._memory)

    def utilization(self, device):
        assert device == GPU
        self.questions += 1
        self.asked.release()
        answer = next(self._busy)
        if answer is None:
            raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")
        return answer


def sampled(card, times, monkeypatch):
    """Usage of a card that was asked so often."""
    monkeypatch.setattr(gpu_usage, "_SECONDS", 1e-3)
    usage = GpuUsage(GPU, memory=card.memory, utilization=card.utilization)
    for _ in range(times):
        usage._sample()
    return usage


def test_values_are_those_since_they_were_last_taken(monkeypatch):
    usage = sampled(Card([2 * GIB, 6 * GIB, 4 * GIB, GIB], [20, 40, 90, 70]), 3, monkeypatch)
    assert usage.take() == {"gpu_memory": 6, "gpu_utilization": 0.5}
    assert usage.take() == {}
    usage._sample()
    assert usage.take() == {"gpu_memory": 1, "gpu_utilization": 0.7}


def test_without_nvml_there_is_memory_only_and_it_is_asked_once(monkeypatch):
    card = Card([GIB, GIB], [None])
    usage = sampled(card, 2, monkeypatch)
    assert usage.take() == {"gpu_memory": 1}
    assert card.questions == 1


def test_a_thread_samples_as_long_as_training_lasts(monkeypatch):
    monkeypatch.setattr(gpu_usage, "_SECONDS", 1e-3)
    card = Card(iter(lambda: GIB, None), iter(lambda: 50, None))
    usage = GpuUsage(GPU, memory=card.memory, utilization=card.utilization)
    with usage.sampled():
        for _ in range(3):
            assert card.asked.acquire(timeout=30)
        assert "gpu-usage" in {thread.name for thread in threading.enumerate()}
    assert "gpu-usage" not in {thread.name for thread in threading.enumerate()}
    assert usage.take() == {"gpu_memory": 1, "gpu_utilization": 0.5}


def test_an_error_in_training_ends_the_thread(monkeypatch):
    usage = GpuUsage(GPU, memory=lambda _: 0, utilization=lambda _: 0)
    with pytest.raises(ValueError, match="diverged"), usage.sampled():
        raise ValueError("diverged")
    assert "gpu-usage" not in {thread.name for thread in threading.enumerate()}


def test_a_trial_reports_it_where_there_is_a_gpu(tiny_spec, device):
    points = []
    made = Trainer(tiny_spec(), device=device, report=lambda s, _, v: points.append(v))
    made.train_epoch()
    reported = {name for values in points for name in values if name.startswith("gpu_")}
    assert ("gpu_memory" in reported) == (device.type == "cuda")
    assert all(values.get("gpu_memory", 1) > 0 for values in points)
