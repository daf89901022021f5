"""Run as a script: one of several gloo processes that train one model on a streamed image folder.

    python streaming_processes.py RANK WORLD IMAGES FOLDER

Writes the weights after an epoch, and which images this process decoded to get there.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from adadim_core import Trainer
from adadim_core.data.files import FileImages
from adadim_core.spec import validate_spec


def main(rank: int, world: int, images: str, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["ADADIM_DATA_MEMORY"] = "0"
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    spec = {
        "name": "streamed",
        "data": {"dataset": "image_folder", "path": images},
        "model": {"backbone": "conv_small", "width": 4, "projector": {"layers": 2, "hidden": 32, "out": 32}},
        "objective": {"weighting": {"policy": "fixed", "alpha": 0.5}},
        "training": {"epochs": 9, "batch_size": 16, "optimizer": "sgd", "lr": 0.01, "precision": "float32"},
        "evaluation": {"every_epochs": 9},
    }
    spec["training"]["warmup_epochs"] = 0
    trainer = Trainer(validate_spec(spec), device="cpu")
    decoded: list[int] = []
    image = FileImages.image

    def noted(self: FileImages, index: int):
        decoded.append(index)
        return image(self, index)

    FileImages.image = noted
    trainer.train_epoch()
    torch.save({"decoded": decoded, "model": trainer.state_dict()["model"]}, folder / f"{world}-{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
