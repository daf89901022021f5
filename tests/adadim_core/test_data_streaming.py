"""Sets larger than memory: streamed, they are the same set, and training on them is the same training."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sets import image_files, medmnist_arrays, write_files, write_idx_set, write_tar

from adadim_core import Trainer
from adadim_core.data import DataError, StreamedImages, assembly, image_batches, load_dataset
from adadim_core.data.streaming import AHEAD

SCRIPT = Path(__file__).with_name("streaming_processes.py")


@pytest.fixture(autouse=True)
def _no_decoding_thread_is_left() -> Iterator[None]:
    yield
    assert not decoding_threads()


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "set", image_files(train=40, test=8))


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch):
    """Call it to have nothing held in memory from then on."""
    return lambda: monkeypatch.setenv("ADADIM_DATA_MEMORY", "0")


def sets(tmp_path: Path) -> dict[str, tuple[str, Path, int | None]]:
    files = image_files(train=40, test=8)
    np.savez(tmp_path / "set.npz", **medmnist_arrays())
    write_idx_set(tmp_path / "idx")
    return {
        "folder": ("image_folder", write_files(tmp_path / "folder", files), None),
        "folder resized": ("image_folder", tmp_path / "folder", 12),
        "tar": ("image_folder", write_tar(tmp_path / "set.tar", files), None),
        "npz": ("npz", tmp_path / "set.npz", 20),
        "medmnist": ("medmnist", tmp_path / "set.npz", None),
        "idx": ("mnist", tmp_path / "idx", None),
    }


@pytest.mark.parametrize("kind", ["folder", "folder resized", "tar", "npz", "medmnist", "idx"])
def test_a_streamed_set_is_the_set(tmp_path, kind, streaming, monkeypatch):
    monkeypatch.setattr(assembly, "_SAMPLE", 7)
    name, path, image_size = sets(tmp_path)[kind]
    held = load_dataset(name, path=path, image_size=image_size)
    streaming()
    streamed = load_dataset(name, path=path, image_size=image_size)
    for one, other in ((held.train_images, streamed.train_images), (held.test_images, streamed.test_images)):
        assert isinstance(other, StreamedImages)
        assert (one.shape, len(one), one.device) == (other.shape, len(other), other.device)
        rows = torch.randperm(len(one), generator=torch.Generator().manual_seed(0))
        assert torch.equal(one[rows], other[rows])
    assert torch.equal(held.train_labels, streamed.train_labels)
    assert torch.equal(held.test_labels, streamed.test_labels)
    # Otherwise a run would continue differently on a machine with more memory.
    assert (held.mean, held.std, held.augmentation) == (streamed.mean, streamed.std, streamed.augmentation)


def test_a_compressed_archive_streams_from_memory_if_it_fits_there(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "set.tar.gz", image_files(side=40))
    held = load_dataset("image_folder", path=path)
    size = sum(len(data) for data in image_files(side=40).values())
    monkeypatch.setenv("ADADIM_DATA_MEMORY", str(size))
    streamed = load_dataset("image_folder", path=path, image_size=160)
    assert isinstance(streamed.train_images, StreamedImages)
    assert len(streamed.train_images) == len(held.train_images)


class _Counting:
    """Numbered images, which says how far it was read."""

    def __init__(self, n: int, side: int = 4, broken: int | None = None) -> None:
        self.shape = (n, 1, side, side)
        self.made: list[int] = []
        self._broken = broken

    def image(self, index: int) -> np.ndarray:
        self.made.append(index)
        if index == self._broken:
            raise DataError(f"image {index} is broken")
        return np.full(self.shape[1:], index % 256, np.uint8)


def test_batches_come_in_order_and_only_so_far_ahead():
    source = _Counting(200)
    rows = torch.split(torch.arange(199, -1, -1), 12)
    seen = 0
    for number, images in enumerate(StreamedImages(source).batches(rows)):
        assert images[:, 0, 0, 0].tolist() == rows[number].tolist()
        seen += len(images)
        assert len(source.made) <= seen + AHEAD * 12
    assert seen == 200
    assert sorted(source.made) == list(range(200))
    assert not decoding_threads()
    assert list(StreamedImages(source).batches([])) == []


def test_leaving_early_ends_the_threads():
    source = _Counting(10_000)
    with closing(StreamedImages(source).batches(torch.split(torch.arange(10_000), 10))) as batches:
        next(batches)
        assert decoding_threads()
    assert not decoding_threads()
    assert len(source.made) <= 10 * (AHEAD + 2)


def test_a_broken_image_is_an_error_where_it_is_needed():
    batches = StreamedImages(_Counting(100, broken=37)).batches(torch.split(torch.arange(100), 10))
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError, match="image 37 is broken"):
        next(batches)
    assert not decoding_threads()


def test_memory_stays_bounded():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell how much memory a process has")

    def resident() -> int:
        return int(statm.read_text().split()[1]) * 4096

    images = StreamedImages(_Counting(20_000, side=128))  # 328 MB
    rows = torch.split(torch.arange(20_000), 100)
    before, most = resident(), 0
    for _ in images.batches(rows):
        most = max(most, resident())
    assert most - before < 60e6


def spec(tiny_spec, folder: Path, **training):
    training = {"epochs": 2, "batch_size": 16, "warmup_epochs": 0, "log_every_steps": 2} | training
    data = {"dataset": "image_folder", "path": str(folder)}
    return tiny_spec(data=data, training=training, evaluation={"knn_k": 3})


def recorded(made_spec):
    points = []
    made = Trainer(made_spec, device="cpu", report=lambda *point: points.append(point))
    return made, points


def outcome(made, points) -> tuple[dict, list]:
    values = [(s, e, {k: repr(x) for k, x in v.items() if k != "images_per_s"}) for s, e, v in points]
    return made.state_dict()["model"], values


def assert_same(one: tuple[dict, list], other: tuple[dict, list]) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_training_on_a_stream_is_training_on_the_set(tiny_spec, folder, streaming):
    held, held_points = recorded(spec(tiny_spec, folder))
    held.fit()
    streaming()
    streamed, streamed_points = recorded(spec(tiny_spec, folder))
    assert isinstance(load_dataset("image_folder", path=folder).train_images, StreamedImages)
    streamed.fit()
    assert_same(outcome(held, held_points), outcome(streamed, streamed_points))


@pytest.mark.parametrize("stop", [1, 5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 7))])
def test_a_resumed_stream_goes_on_with_the_same_batches(tiny_spec, folder, streaming, tmp_path, stop):
    whole, expected = recorded(spec(tiny_spec, folder))
    whole.fit()
    streaming()
    first, points = recorded(spec(tiny_spec, folder))
    first.train_steps(stop)
    first.save(tmp_path / "checkpoint.pt")
    second, later = recorded(spec(tiny_spec, folder))
    second.load(tmp_path / "checkpoint.pt")
    second.fit()
    assert_same(outcome(whole, expected), outcome(second, points + later))


def test_an_interrupted_run_leaves_no_thread(tiny_spec, folder, streaming):
    streaming()

    def report(step: int, epoch: float, values: object) -> None:
        if step == 2:
            assert decoding_threads()
            raise KeyboardInterrupt

    made = Trainer(spec(tiny_spec, folder), device="cpu", report=report)
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    assert not decoding_threads()


@pytest.mark.slow
def test_each_process_decodes_its_own_share(folder, tmp_path):
    runs = [(0, 1), (0, 2), (1, 2)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(world), str(folder), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, world in runs
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=220)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    one, *two = (torch.load(tmp_path / f"{world}-{rank}.pt", weights_only=True) for rank, world in runs)
    # Five steps of 16 images, and one batch measured before the first.
    assert len(one["decoded"]) == 6 * 16
    assert [len(process["decoded"]) for process in two] == [6 * 8] * 2
    assert sorted(one["decoded"]) == sorted(two[0]["decoded"] + two[1]["decoded"])
    for name, weight in one["model"].items():
        torch.testing.assert_close(two[0]["model"][name], weight, rtol=1e-4, atol=1e-5)


def test_batches_of_a_held_set_are_its_rows(folder):
    images = load_dataset("image_folder", path=folder).train_images
    rows = torch.split(torch.randperm(80), 32)
    batches = list(image_batches(images, rows, torch.device("cpu")))
    assert all(torch.equal(batch, images[part]) for batch, part in zip(batches, rows, strict=True))


@pytest.mark.slow
def test_processes_that_read_different_images_do_not_train(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    changed = next(other.rglob("*.png"))
    changed.write_bytes(changed.read_bytes() + b"x")
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), "2", str(images), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, images in enumerate((folder, other))
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert "read different images of image_folder (training images by process: 80, 80)" in output
    finally:
        for process in processes:
            process.kill()
