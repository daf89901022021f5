"""Members of a sweep that train together on one device: the prototype of `resources.pack`.

    .venv/bin/python benchmarks/gpu_packing.py [--members 4] [--steps 20]     together against one after the other

A sweep of weightings is many small networks on the same images. Here its members share the images, their order and
their views, which are drawn once; each has weights, an optimiser and a weighting of its own. On a GPU a member's whole
step is one CUDA graph, as a trial's is, replayed on a stream of its own, so that small kernels of different members run
side by side. On a CPU the same calls are made plainly, one member after the other, and each is bit for bit the trial
alone.

Owns the step of a pack. Owns no report, checkpoint, evaluation or early end of a member: those stay the trainer's.

Names: M members; N images of a batch.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adadim_core.batch_norm import frozen_statistics
from adadim_core.batches import Batches
from adadim_core.building import build_model, load_images
from adadim_core.data import ImageDataset
from adadim_core.measurement import measure_step
from adadim_core.optimizers import learning_rate
from adadim_core.rank import RankMeter
from adadim_core.replay import ReplayedStep
from adadim_core.spec import ExperimentSpec, validate_spec
from adadim_core.step import EmbeddedBatch, StepSettings, TrainingStep
from adadim_core.weighting import AlphaPolicy, weights_at

OWN = (
    "name",
    "description",
    "objective.weighting",
    "objective.mutual_information.gamma",
    "objective.sample_loss.temperature",
    "training.lr",
    "training.seed",
)
"""Fields in which the members of a pack may differ."""


def require_packable(specs: Sequence[ExperimentSpec]) -> None:
    """Raise ValueError unless these trials can share images, order, views and the shape of their networks."""
    if not specs:
        raise ValueError("a pack needs at least one member")
    first = _shared(specs[0])
    for number, spec in enumerate(specs):
        if spec.training.accumulate != 1 or spec.resources.workers != 1:
            raise ValueError(f"member {number}: a pack takes neither training.accumulate nor resources.workers above 1")
        differing = sorted(name for name, value in _shared(spec).items() if first.get(name) != value)
        if differing:
            raise ValueError(
                f"member {number} differs from member 0 in {', '.join(differing)}; only {', '.join(OWN)} may"
            )


def _shared(spec: ExperimentSpec) -> dict[str, Any]:
    """The fields all members must have in common, by dotted path."""
    flat: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if path in OWN:
            return
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{path}.{name}" if path else name, inner)
        else:
            flat[path] = value

    add("", spec.model_dump(exclude={"search", "resources"}))
    return flat


class Pack:
    """Trains its members in lockstep, each as `Trainer` would train it alone."""

    def __init__(
        self,
        specs: Sequence[ExperimentSpec],
        *,
        device: torch.device | str = "cpu",
        data: ImageDataset | None = None,
        seed: int | None = None,
        graphs: bool | None = None,
    ) -> None:
        """
        Args:
            specs: of the members.
            device: where to train.
            data: images of your own; None: those the specs name.
            seed: of order and views; None: that of the first member. A member's own seed gives its initial weights.
            graphs: replay CUDA graphs on streams; None: on a GPU. Without, all members run on the current stream.

        Raises:
            ValueError: the members differ in what they must share.
        """
        require_packable(specs)
        self.device = torch.device(device)
        self._data = (data or load_images(specs[0].data)).to(self.device)
        training = specs[0].training
        training = training if seed is None else training.model_copy(update={"seed": seed})
        self._batches = Batches(specs[0].model_copy(update={"training": training}), self._data, self.device)
        self._graphs = self.device.type == "cuda" if graphs is None else graphs
        self.members = [Member(spec, self._data, self.device, graphs=self._graphs) for spec in specs]
        self.steps_per_epoch = self._batches.steps_per_epoch
        self.step = 0
        self._total_steps = training.epochs * self.steps_per_epoch
        self._order = torch.empty(0, dtype=torch.long)
        self._shared = torch.empty(0)
        """The views that the members are at, or were last."""

    @property
    def replays(self) -> bool:
        """Whether the steps of all members are replayed as CUDA graphs by now."""
        return all(member.replayed is not None and member.replayed.replays for member in self.members)

    def keep(self, count: int) -> None:
        """All members but the first `count` end here: the others go on without them."""
        self._wait()
        del self.members[count:]

    def train_steps(self, steps: int) -> None:
        """Train every member some steps, fewer where training is over before. On a GPU it returns before they end."""
        for _ in range(min(steps, self._total_steps - self.step)):
            at = self.step % self.steps_per_epoch
            if at == 0:
                self._begin_epoch(self.step // self.steps_per_epoch)
            self._train_step(last_of_epoch=at == self.steps_per_epoch - 1)
            self.step += 1

    def _begin_epoch(self, epoch: int) -> None:
        """The order of the epoch, and the rank of Z of the members whose weighting follows it."""
        self._wait()
        self._order = self._batches.order(epoch)
        steps, size = self.steps_per_epoch, self._batches.size
        due = {m: m.policy.measurement_batches(epoch, steps=steps, batch_size=size) for m in self.members}
        meters = {m: RankMeter(m.policy.pooled_rows, computed_in=m.dtype) for m in self.members}
        if batches := min(max(due.values()), steps):
            order = self._batches.order(epoch, "measurement")
            for batch in range(batches):
                view = self._views(order, batch, "measurement", epoch, batch, views=1)
                for member in self.members:
                    if batch < due[member]:
                        meters[member].take(member.embed(view, self.step, batch))
        for member, meter in meters.items():
            if due[member]:
                rank = meter.value().item()
                member.policy.observe(rank, n=meter.n, d=member.spec.model.projector.out, epoch=epoch)

    def _train_step(self, *, last_of_epoch: bool) -> None:
        views = self._views(self._order, self.step % self.steps_per_epoch, "step", self.step)
        position = (self.step, self.steps_per_epoch, self._total_steps)
        if not self._graphs:
            for member in self.members:
                member.train(views, *position, last_of_epoch=last_of_epoch)
            return
        main = torch.cuda.current_stream(self.device)
        for member in self.members:
            main.wait_event(member.done)  # the views of the step before, whose memory is free from here on
        self._shared = views
        ready = main.record_event()
        for member in self.members:
            member.stream.wait_event(ready)
            with torch.cuda.stream(member.stream):
                member.train(views, *position, last_of_epoch=last_of_epoch)
                member.done.record(member.stream)

    def _views(self, order: Tensor, batch: int, *purpose: str | int, views: int = 2) -> Tensor:
        """(views * N, C, H, W) of one batch of an order."""
        size = self._batches.size
        images = self._data.train_images[order[batch * size : (batch + 1) * size]].to(self.device, non_blocking=True)
        return self._batches.views(images, *purpose, views=views)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Member:
    """One trial of a pack: its networks, optimiser and weighting; on a GPU the stream that its graphs run on."""

    def __init__(self, spec: ExperimentSpec, data: ImageDataset, device: torch.device, *, graphs: bool) -> None:
        self.spec = spec
        self.policy = AlphaPolicy(spec.objective.weighting)
        self.metrics: dict[str, float] = {}
        """Losses and information quantities of the last step of the last epoch."""
        self.model = build_model(spec, data, device, backbone=None)
        self._step = TrainingStep(spec, self.model, device)
        self.dtype = self._step.dtype
        self._run: Callable[..., EmbeddedBatch] = self._step.run
        self.replayed = ReplayedStep(self._step) if graphs else None
        if self.replayed is not None:
            self._run, self.stream, self.done = self.replayed.run, self.replayed.stream, torch.cuda.Event()

    @torch.no_grad()
    def embed(self, view: Tensor, step: int, batch: int) -> Tensor:
        """Z of one view, without a trace in the running statistics."""
        self.model.train()
        with frozen_statistics(self.model):
            _, z = self._step.embed_in_parts(view, step, batch)
        return z

    def train(self, views: Tensor, step: int, steps_per_epoch: int, total_steps: int, *, last_of_epoch: bool) -> None:
        """One step, with the weights and the learning rate that the spec asks for then."""
        training = self.spec.training
        warmup_steps = training.warmup * steps_per_epoch
        lr = learning_rate(step, peak=training.lr, warmup_steps=warmup_steps, total_steps=total_steps)
        epochs, information = total_steps // steps_per_epoch, self.spec.objective.mutual_information
        alpha, beta = weights_at(step, self.spec.objective, self.policy, steps_per_epoch=steps_per_epoch, epochs=epochs)
        settings = StepSettings(alpha, beta, lr)
        batch = self._run(views, settings, step=step)
        if last_of_epoch and batch.r1 is not None:
            dtype = self._step.dtype
            measured = measure_step(
                batch.terms, batch.r1, batch.z1, batch.z2, order=information.order, computed_in=dtype
            )
            self.metrics = measured.values() | settings.metrics()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    specs = [
        validate_spec(
            {
                "name": "pack",
                "model": {"backbone": "conv_small", "width": 16, "projector": {"layers": 2, "hidden": 256, "out": 64}},
                "objective": {"weighting": {"policy": "fixed", "alpha": (m + 1) / (arguments.members + 1)}},
                "training": {"epochs": 1000, "optimizer": "adamw", "lr": 1e-3},
            }
        )
        for m in range(arguments.members)
    ]
    together = Pack(specs, device=arguments.device)
    alone = [Pack([spec], device=arguments.device) for spec in specs]

    def seconds(packs: Sequence[Pack]) -> float:
        for pack in packs:
            pack.train_steps(2)
        began = time.perf_counter()
        for pack in packs:
            pack.train_steps(arguments.steps)
            if arguments.device == "cuda":
                torch.cuda.synchronize()
        return time.perf_counter() - began

    one, other = seconds([together]), seconds(alone)
    print(f"{arguments.members} members together: {one:.2f} s, one after the other: {other:.2f} s, {other / one:.2f}x")


if __name__ == "__main__":
    main()
