"""The training loop: from a trial's spec to a trained encoder, with every measurement reported on the way.

Owns the order of things and the state that lives between steps. Knows nothing of who listens to the reports.

Randomness is named, never a running state: the order of an epoch, the views of a step and the initial weights
are functions of (seed, purpose, position). So a run resumed from a checkpoint continues exactly.

Names: N images of the global batch, n of this process; r_ND and z_ND are representations and embeddings.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adadim_core import distributed
from adadim_core.accumulation import backward_in_parts, split_views
from adadim_core.augmentation import augment
from adadim_core.batch_norm import frozen_statistics
from adadim_core.building import build_model, load_images, pick_device, share_of_batch
from adadim_core.checkpoint import CheckpointError, read_latest_checkpoint, remove_checkpoint, write_checkpoint
from adadim_core.collapse import CollapseWatch
from adadim_core.data import ImageDataset, image_batches
from adadim_core.evaluation import embed, knn_accuracy
from adadim_core.export import save_encoder
from adadim_core.information import effective_rank
from adadim_core.measurement import Measurement, measure_representations, measure_step
from adadim_core.model_card import model_card
from adadim_core.models import Encoder, SelfSupervisedModel
from adadim_core.objective import ObjectiveTerms, objective
from adadim_core.optimizers import build_optimizer, learning_rate, load_optimizer_state
from adadim_core.precision import autocast, resolve_precision
from adadim_core.probe import OnlineProbe, linear_probe_accuracy
from adadim_core.seeding import generator, seeded
from adadim_core.spec import ExperimentSpec
from adadim_core.weighting import AlphaPolicy, mutual_information_weight

ReportFn = Callable[[int, float, Mapping[str, float]], None]
"""Takes (step, epoch, values): steps done, the same in epochs, and measurements by canonical metric name."""

_STATE_VERSION = 3

logger = logging.getLogger(__name__)


def _ignore(step: int, epoch: float, values: Mapping[str, float]) -> None:
    """The report of a trainer that nobody listens to."""


class Trainer:
    """Trains one trial.

    With an initialised torch.distributed process group the processes train one model: `training.batch_size` is
    that of all of them together, every loss and information quantity is that of the global batch, and only rank 0
    reports. All of them must make the same calls.

    The information quantities (`h_r`, `i_rz`, `erank_r`, `erank_z`, `uniformity`, `loss_mi`) are those of the
    first view of the step's batch, before the step's update, without gradient. On a GPU a step's measurements are
    reported during the step after it, so that the host need not wait for the device.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        device: torch.device | str | None = None,
        report: ReportFn = _ignore,
        backbone: str | None = None,
        data: ImageDataset | None = None,
    ) -> None:
        """Build data, networks and optimiser; nothing is trained or reported yet.

        Args:
            spec: a trial's spec, without a search section.
            device: where to train; None: CUDA where there is any, else the CPU.
            report: called with every measurement, on the training thread.
            backbone: a network known through `register_backbone`, in place of the one the spec names.
            data: images of your own, in place of those the spec names (`parse_spec(..., own_data=True)`).

        Raises:
            TypeError: spec is something else.
            ValueError: the spec has a search section, the images are not square, or the batch size does not fit the
                data, the processes or the parts it is to be computed in.
        """
        if not isinstance(spec, ExperimentSpec):
            raise TypeError(
                f"a spec is needed, not a {type(spec).__name__}: parse_spec reads text, validate_spec a dict"
            )
        if spec.search is not None:
            raise ValueError("a trainer takes one trial's spec: plan the search and use spec.with_params")
        self.spec = spec
        self.device = pick_device(device)
        self._report = report
        self._data = (data or load_images(spec.data)).to(self.device)
        self._recipe = self._data.augmentation.with_spec(spec.data.augmentation)
        self._dtype = resolve_precision(spec.training.precision, self.device)
        self._share = share_of_batch(spec.training, self._data)

        self.step = 0
        self.epochs = spec.training.epochs
        self.steps_per_epoch = len(self._data.train_images) // spec.training.batch_size
        self._total_steps = self.epochs * self.steps_per_epoch

        self._model = build_model(spec, self._data, self.device, backbone=backbone)
        if spec.training.compile:
            self._compile(self._model)
        self._training_model = distributed.wrap(self._model, self.device)
        self._optimizer = build_optimizer(self._model, spec.training)
        self._alpha_policy = AlphaPolicy(spec.objective.weighting)
        self._collapse = CollapseWatch(spec.training.collapse)
        self._probe = self._build_probe() if spec.evaluation.linear_probe == "online" else None
        self._last: dict[str, float] = {}
        self._pending: _Pending | None = None
        self._reports_late = self.device.type == "cuda"
        self._images_since_report = 0
        self._clock = time.perf_counter()

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.steps_per_epoch

    @property
    def encoder(self) -> Encoder:
        """Images to R, as trained so far; the live module."""
        return self._model.encoder

    @property
    def projector(self) -> nn.Sequential:
        """R to Z, as trained so far; the live module."""
        return self._model.projector

    @property
    def data(self) -> ImageDataset:
        """The images and labels."""
        return self._data

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric."""
        return dict(self._last)

    @property
    def collapsed_at(self) -> int | None:
        """Step at which the collapse watch flagged the trial; None: it did not."""
        return self._collapse.step

    @property
    def done(self) -> bool:
        """Whether every epoch of the spec is trained, or the trial collapsed and the spec says to stop then."""
        collapsed = self.spec.training.collapse.stop and self.collapsed_at is not None
        return self.step >= self._total_steps or collapsed

    def fit(self) -> dict[str, float]:
        """Train the epochs that remain. Returns the last value of every metric."""
        while not self.done:
            self.train_epoch()
        return self.metrics

    def train_epoch(self) -> dict[str, float]:
        """Train to the end of the epoch and evaluate if that is due. Returns the last value of every metric.

        Raises:
            RuntimeError: the trial is done.
        """
        return self.train_steps(self.steps_per_epoch - self.step % self.steps_per_epoch)

    def train_steps(self, steps: int) -> dict[str, float]:
        """Train some steps, fewer where the trial is done before. Returns the last value of every metric.

        Between any two calls the trainer can be saved. However training is cut into calls, it is the same training,
        with the same reports. (But on a GPU, where a measurement is read a step late, a trial that stops on its
        collapse may train one step more.)

        Raises:
            RuntimeError: the trial is done.
            ValueError: steps < 1.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if self.done:
            ended = "" if self.step >= self._total_steps else f", stopped by its collapse at step {self.collapsed_at}"
            raise RuntimeError(f"the trial is done: {self.step} of {self._total_steps} steps{ended}")
        last = min(self.step + steps, self._total_steps)
        while self.step < last and not self.done:
            self._train_within_epoch(min(last, (self.epoch + 1) * self.steps_per_epoch))
        return self.metrics

    def evaluate(self) -> dict[str, float]:
        """How well R classifies the held-out images, by metric name: shares in [0, 1].

        `knn_top1` by weighted k nearest neighbours; `linear_top1` where the spec asks for a linear probe: by the one
        trained so far (online), or by one fitted now, once the trial is done (offline).
        """
        settings, data = self.spec.evaluation, self._data
        encoder = self._model.encoder
        # Without gradients, so never more memory than a step, which has two views of each image of a part.
        part = (self._share.stop - self._share.start) // self.spec.training.accumulate
        batch_size = max(2 * part, 32)
        with autocast(self.device, self._dtype):
            bank_ND = embed(encoder, data.train_images, batch_size=batch_size, rows=data.labelled_rows)
            queries_MD = embed(encoder, data.test_images, batch_size=batch_size)
        labelled = (bank_ND, data.train_labels[data.labelled_rows], queries_MD, data.test_labels)
        values = {"knn_top1": knn_accuracy(*labelled, k=settings.knn_k, temperature=settings.knn_temperature)}
        if self._probe is not None:
            values["linear_top1"] = self._probe.accuracy(queries_MD, data.test_labels)
        elif settings.linear_probe == "offline" and self.done:
            values["linear_top1"] = linear_probe_accuracy(*labelled)
        return values

    def evaluate_and_report(self) -> dict[str, float]:
        """Evaluate and report it, for a trial that is to end where no evaluation is due.

        Returns the last value of every metric. With several processes, call it on the first.
        """
        self._publish(self.evaluate())
        return self.metrics

    def _train_within_epoch(self, last: int) -> None:
        """Train up to a step of the epoch under way, with what is due before its first and after its last step."""
        if self.step % self.steps_per_epoch == 0:
            self._measure_before_epoch(self.epoch)
        order = self._order(self.epoch)
        batch_size = self.spec.training.batch_size
        self._training_model.train()
        self._restart_clock()
        start = self.step % self.steps_per_epoch * batch_size
        rows = torch.split(order[start : start + (last - self.step) * batch_size], batch_size)
        with self._images(rows) as batches:
            for rows_N, images in zip(rows, batches, strict=True):
                self._train_step(rows_N, images)
                if self.done:
                    break
        self._settle()
        epoch_ended = self.step % self.steps_per_epoch == 0
        if self.done or (epoch_ended and self.epoch % self.spec.evaluation.every_epochs == 0):
            self._publish(self.evaluate())

    def _train_step(self, rows: Tensor, images: Tensor) -> None:
        alpha, beta = self._weights()
        last_of_epoch = (self.step + 1) % self.steps_per_epoch == 0
        logging_due = last_of_epoch or (self.step + 1) % self.spec.training.log_every_steps == 0
        lr = self._set_learning_rate()

        views = self._views(images, "step", self.step)
        self._optimizer.zero_grad(set_to_none=True)
        needs_r = logging_due or self._probe is not None
        if self.spec.training.accumulate == 1:
            batch = self._batch(*self._forward(self._training_model, views), alpha, beta, needs_r=needs_r)
            torch.autograd.backward(batch.terms.total)
        else:
            batch = self._backward_in_parts(views, alpha, beta, needs_r=needs_r)
        if self.spec.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self.spec.training.clip_norm)
        self._optimizer.step()
        if self._probe is not None and batch.r1 is not None:
            self._probe.learn(batch.r1, self._data.train_labels[rows])
        self.step += 1
        self._images_since_report += self.spec.training.batch_size
        # Now, with the work of this step queued on the device, the host has time for the one before.
        self._settle()
        if logging_due and batch.r1 is not None:
            order = self.spec.objective.mutual_information.order
            measured = measure_step(batch.terms, batch.r1, batch.z1, batch.z2, order=order, computed_in=self._dtype)
            settings = {"alpha": alpha, "beta": beta, "lr": lr}
            self._pending = _Pending(self.step, measured, settings, self._images_since_report)
            self._images_since_report = 0
            if not self._reports_late:
                self._settle()

    def _forward(self, model: nn.Module, views: Tensor, part: int = 0) -> tuple[Tensor, Tensor]:
        """R and Z in float32. What the network draws at random depends on the step, the process and the part."""
        names = ("forward", self.step, distributed.rank(), part)
        with seeded(self.device, self.spec.training.seed, *names), autocast(self.device, self._dtype):
            r, z = model(views)
        return r.float(), z.float()

    def _forward_in_parts(self, views: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """R and Z of one view, in as many parts as a step has."""
        parts = views.tensor_split(self.spec.training.accumulate)
        embedded = [self._forward(self._model, part, batch * len(parts) + i) for i, part in enumerate(parts)]
        r, z = (torch.cat(tensors) for tensors in zip(*embedded, strict=True))
        return r, z

    def _batch(self, r: Tensor, z: Tensor, alpha: float, beta: float, *, needs_r: bool) -> "_Batch":
        """The objective of the global batch from this process's share of it."""
        z1_ND, z2_ND = distributed.gather_views(z).unbind()
        r1_ND = None
        if beta or needs_r:
            # R is gathered with gradients only where the loss depends on it.
            r1_ND = distributed.gather_views(r if beta else r.detach())[0]
        terms = objective(self.spec.objective, z1_ND, z2_ND, r1_ND, alpha=alpha, beta=beta)
        return _Batch(terms, None if r1_ND is None else r1_ND.detach(), z1_ND.detach(), z2_ND.detach())

    def _backward_in_parts(self, views: Tensor, alpha: float, beta: float, *, needs_r: bool) -> "_Batch":
        batches: list[_Batch] = []

        def loss(r: Tensor, z: Tensor) -> Tensor:
            batches.append(self._batch(r, z, alpha, beta, needs_r=needs_r))
            return batches[0].terms.total

        parts = split_views(views, self.spec.training.accumulate)
        backward_in_parts(self._training_model, parts, self._forward, loss)
        return batches[0]

    def _settle(self) -> None:
        """Publish the measurement that is under way, if any."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        values = pending.measurement.values() | pending.settings
        now = time.perf_counter()
        values["images_per_s"] = pending.images / (now - self._clock)
        self._clock = now
        self._publish(self._watch(pending.step, values), step=pending.step)

    def _watch(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Show the collapse watch what was measured."""
        rank = values["erank_r"]
        if self.spec.training.collapse.stop:  # all must end at one step; asking would make a GPU's host wait
            rank = distributed.broadcast_float(rank, self.device)
        return values | {"collapsed": 1.0} if self._collapse.observe(step, rank) else values

    @torch.no_grad()
    def _measure_before_epoch(self, epoch: int) -> None:
        """Measure ER(Z) for the adaptive alpha where that is due, and the starting point of the curves at step 0.

        Batches are drawn and augmented like those of training, and normalised with their own statistics; the
        running statistics of the network are left alone.
        """
        due = self._alpha_policy.measurement_batches(epoch, steps=self.steps_per_epoch)
        batches = min(max(due, int(self.step == 0)), self.steps_per_epoch)
        if not batches:
            return
        order = self._order(epoch, purpose="measurement")
        batch_size = self.spec.training.batch_size
        ranks: list[Tensor] = []
        measured: Measurement | None = None
        self._model.train()
        rows = torch.split(order, batch_size)[:batches]
        with frozen_statistics(self._model), self._images(rows) as stream:
            for batch, images in enumerate(stream):
                views = self._views(images, "measurement", epoch, batch, views=1)
                r, z = self._forward_in_parts(views, batch)
                z_ND = distributed.gather(z).flatten(0, 1)
                if due:
                    ranks.append(effective_rank(z_ND, computed_in=self._dtype))
                if self.step == 0 and batch == 0:
                    information_order = self.spec.objective.mutual_information.order
                    r_ND = distributed.gather(r).flatten(0, 1)
                    measured = measure_representations(r_ND, z_ND, order=information_order, computed_in=self._dtype)
        if ranks:
            mean_rank = distributed.broadcast_float(torch.stack(ranks).mean().item(), self.device)
            self._alpha_policy.observe(mean_rank, n=batch_size, d=self.spec.model.projector.out)
        if measured is not None:
            alpha, beta = self._weights()
            self._publish(self._watch(self.step, {**measured.values(), "alpha": alpha, "beta": beta}))

    def _weights(self) -> tuple[float, float]:
        """alpha and signed beta of the step to come."""
        alpha = self._alpha_policy.alpha(self.step / max(self._total_steps - 1, 1))
        spec = self.spec.objective.mutual_information
        return alpha, mutual_information_weight(spec, alpha=alpha, epoch=self.epoch)

    def _set_learning_rate(self) -> float:
        settings = self.spec.training
        lr = learning_rate(
            self.step,
            peak=settings.lr,
            warmup_steps=settings.warmup * self.steps_per_epoch,
            total_steps=self._total_steps,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _order(self, epoch: int, purpose: str = "order") -> Tensor:
        """A permutation of the training images, on the device that holds them."""
        source = generator(self.spec.training.seed, purpose, epoch)
        return torch.randperm(len(self._data.train_images), generator=source).to(self._data.train_images.device)

    def _images(self, batches: Sequence[Tensor]) -> closing[Generator[Tensor, None, None]]:
        """This process's share of the images of each batch, on the device, to be used in a with statement."""
        mine = (rows_N[self._share] for rows_N in batches)
        return closing(image_batches(self._data.train_images, mine, self.device))

    def _views(self, images: Tensor, *purpose: str | int, views: int = 2) -> Tensor:
        """(views * n, C, H, W): this process's share of the batch, augmented as it would be in one process."""
        return augment(
            images,
            self._recipe,
            generator(self.spec.training.seed, "augmentation", *purpose),
            views=views,
            total=self.spec.training.batch_size,
            offset=self._share.start,
        )

    def _publish(self, values: dict[str, float], *, step: int | None = None) -> None:
        step = self.step if step is None else step
        self._last.update(values)
        if distributed.rank() == 0:
            self._report(step, step / self.steps_per_epoch, values)

    def _restart_clock(self) -> None:
        self._images_since_report = 0
        self._clock = time.perf_counter()

    def _compile(self, model: SelfSupervisedModel) -> None:
        """Compile in place, on a batch of the size to come, so that what cannot be compiled is known before training.

        Whatever the compiler raises, the trial goes on uncompiled.
        """
        torch.compiler.reset()  # earlier trials in this process count towards its limit of recompilations
        shape = (self._share.stop - self._share.start, *self._data.train_images.shape[1:])
        images = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        views = split_views(self._views(images, "compilation"), self.spec.training.accumulate)[0]
        plain = model._compiled_call_impl
        model.compile()
        try:
            with frozen_statistics(model):
                _, z = self._forward(model.train(), views)
                torch.autograd.backward(z.sum())
        except Exception as error:  # noqa: BLE001 - compilers raise anything
            model._compiled_call_impl = plain
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logger.warning("torch.compile failed, training goes on without it: %s", reason)
        for parameter in model.parameters():
            parameter.grad = None

    def _build_probe(self) -> OnlineProbe:
        classes = int(max(self._data.train_labels.max(), self._data.test_labels.max())) + 1
        return OnlineProbe(self._model.encoder.features, classes, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly: model, optimiser, alpha, watch, probe, position and last metrics.

        The tensors are the live ones; save or copy them before training on. The learning-rate schedule and all
        random numbers follow from the position.
        """
        return {
            "version": _STATE_VERSION,
            "step": self.step,
            "data": self._data_state(),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "alpha_policy": self._alpha_policy.state_dict(),
            "collapse": self._collapse.state_dict(),
            "probe": None if self._probe is None else self._probe.training_state(),
            "last": self.metrics,
        }

    def _data_state(self) -> dict[str, int]:
        """What the order of the images follows from, beside the seed."""
        return {"images": len(self._data.train_images), "batch_size": self.spec.training.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a trainer with the same networks, optimiser, data and batch size.

        Settings come from this trainer's spec, not from the state: learning rate, weight decay and weighting may
        differ from those the state was trained with.

        Raises:
            CheckpointError: the state is of another version or does not fit this spec; the networks stay as they were.
        """
        if state.get("version") != _STATE_VERSION:
            raise CheckpointError(f"the state has version {state.get('version')!r}, not {_STATE_VERSION}")
        try:
            if state["data"] != self._data_state():
                raise CheckpointError(f"the state was trained on {state['data']}, not on {self._data_state()}")
            _require_same_tensors(self._model.state_dict(), state["model"])
            load_optimizer_state(self._optimizer, state["optimizer"])
            self._model.load_state_dict(state["model"])
            self._alpha_policy.load_state_dict(state["alpha_policy"])
            self._collapse.load_state_dict(state["collapse"])
            if self._probe is not None and state["probe"] is not None:
                self._probe.load_training_state(state["probe"])
            self.step, self._last = int(state["step"]), dict(state["last"])
        except CheckpointError:
            raise
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"the state does not fit this spec: {error}") from error

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all, and keep the one before it beside it.

        With several processes, call it on one.
        """
        write_checkpoint(Path(path), self.state_dict())

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote or, where that is damaged, from the one before it, with a warning.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the files are truncated or damaged, or the state does not fit this spec.
            OSError, RuntimeError: a file could not be read, or its tensors not be held; the file may be fine. Or not
                all processes found the same step.
        """
        failure: Exception | None = None
        try:
            self.load_state_dict(read_latest_checkpoint(Path(path), self.device))
        except Exception as error:  # noqa: BLE001 - the other processes wait to hear of it; raised again below
            failure = error
        steps = distributed.all_ints(-1 if failure else self.step, self.device)
        if min(steps) != max(steps):
            found = ", ".join("none" if step < 0 else str(step) for step in steps)
            raise RuntimeError(f"the processes do not go on from one step: from {path} they read {found}") from failure
        if failure is not None:
            raise failure

    @staticmethod
    def remove_checkpoint(path: Path) -> None:
        """Remove what `save` wrote to a path, with the one before it."""
        remove_checkpoint(Path(path))

    def export_encoder(self, directory: Path) -> None:
        """Write encoder.safetensors, encoder.json and README.md, a model card; `adadim_core.load_encoder` reads it."""
        encoder = self._model.encoder
        card = model_card(
            self.spec,
            encoder,
            self._last,
            dataset=self._data.name,
            step=self.step,
            epoch=self.epoch,
            collapsed=self.collapsed_at,
        )
        save_encoder(encoder, Path(directory), card=card)


@dataclass(frozen=True)
class _Batch:
    """The objective of a global batch, and its representations without gradients."""

    terms: ObjectiveTerms
    r1: Tensor | None
    z1: Tensor
    z2: Tensor


@dataclass(frozen=True)
class _Pending:
    """A measurement that the device may still be at."""

    step: int
    measurement: Measurement
    settings: dict[str, float]
    """What the host knew of that step."""
    images: int
    """Trained since the measurement before."""


def _require_same_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a state is of other networks, before any of it is taken over."""
    if own.keys() != given.keys():
        raise ValueError(f"the networks differ in {', '.join(sorted(own.keys() ^ given.keys())[:3])}")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ValueError(f"{name} has the shape {(*given[name].shape,)}, not {(*tensor.shape,)}")
