"""Memory and speed of streaming an image folder, next to what holding the decoded images would take.

    python benchmarks/data_memory.py [--files 10000 100000] [--side 128]

Makes a temporary folder of JPEG files: a thousand different images, each under many names (hard links), so the files
are read from the system's cache and the figures are those of listing, opening and decoding, not of a disk. Each number
of files is measured in a process of its own: one epoch in random order, in batches of 256, nothing trained.
"""

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe
from PIL import Image

from adadim_core.data import StreamedImages, load_dataset

BATCH = 256
DIFFERENT = 1000
CLASSES = 10
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.measure))
        return
    print(describe("torch", "pillow", "numpy"))
    print(f"JPEG files of {arguments.side} x {arguments.side} pixels; batches of {BATCH} in random order, one epoch\n")
    print("  files   ready after   images/s   peak memory over the start   held in memory it would be")
    for count in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count, arguments.side)
            command = [sys.executable, __file__, "--measure", folder]
            done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        ready, speed, peak = map(float, done.stdout.split())
        held = count * 3 * arguments.side**2 / MIB
        print(f"{count:7} {ready:11.1f} s {speed:10.0f} {peak:24.0f} MiB {held:24.0f} MiB")


def make(folder: Path, count: int, side: int) -> None:
    """Nine in ten for training, the rest for testing. Smooth noise, which compresses like a photograph."""
    images = np.random.RandomState(0).randint(0, 256, (DIFFERENT, 8, 8, 3), dtype=np.uint8)
    for split in ("train", "test"):
        for label in range(CLASSES):
            (folder / split / f"class{label}").mkdir(parents=True)
    first: list[Path] = []
    for number in range(count):
        split = "test" if number % 10 == 9 else "train"
        path = folder / split / f"class{number // 10 % CLASSES}" / f"{number:07}.jpg"
        if number < DIFFERENT:
            buffer = io.BytesIO()
            Image.fromarray(images[number]).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
            path.write_bytes(buffer.getvalue())
            first.append(path)
        else:
            os.link(first[number % DIFFERENT], path)


def measure(folder: Path) -> str:
    """Seconds until the set is ready, images a second, MiB at the peak over those before the set was touched."""
    os.environ["ADADIM_DATA_MEMORY"] = "0"
    before = peak_memory()
    begin = time.perf_counter()
    images = load_dataset("image_folder", path=folder).train_images
    ready = time.perf_counter() - begin
    assert isinstance(images, StreamedImages)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    begin = time.perf_counter()
    seen = sum(len(batch) for batch in images.batches(torch.split(order, BATCH)))
    speed = seen / (time.perf_counter() - begin)
    assert seen == len(images)
    return f"{ready} {speed} {(peak_memory() - before) / MIB}"


def peak_memory() -> int:
    """Most bytes of memory this process ever had, in which shared libraries count."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
