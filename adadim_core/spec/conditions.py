"""What must hold between parts of a spec so that a trial can be built.

Each condition is one function, called by the spec at submission and by the builder of a trainer, so that the two cannot
drift apart. All raise ValueError.
"""


def check_batch(batch_size: int, *, processes: int, accumulate: int) -> None:
    """Whether each process of a trial gets an equal share of every batch, and each part of it two images."""
    if batch_size % processes:
        raise ValueError(
            f"training.batch_size ({batch_size}) must be a multiple of the processes of a trial "
            f"(resources.workers: {processes})"
        )
    share = batch_size // processes
    if share < 2 * accumulate:
        each = f"the {share} images of a process" if processes > 1 else f"{share} images"
        raise ValueError(
            f"training.accumulate ({accumulate}) leaves fewer than two of {each} per part; use at most {share // 2}"
            if share >= 2
            else f"training.batch_size ({batch_size}) leaves each process {share} image; it needs at least two"
        )


def check_images(batch_size: int, *, images: int, dataset: str) -> None:
    """Whether a data set fills one batch."""
    if batch_size > images:
        raise ValueError(f"training.batch_size ({batch_size}) is larger than the {images} training images of {dataset}")


def check_gpus(gpus_per_worker: float | str, *, processes: int) -> None:
    """Whether the processes of a trial each have a GPU of their own, without which NCCL refuses to start."""
    if processes > 1 and not isinstance(gpus_per_worker, str) and 0 < gpus_per_worker < 1:
        raise ValueError(
            f"resources.gpus_per_worker ({gpus_per_worker:g}) lets processes of one trial share a GPU, which NCCL does "
            "not allow; with resources.workers above 1 give a whole number, auto or 0"
        )
