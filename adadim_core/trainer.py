"""The training loop: from a trial's spec to a trained encoder, with every measurement reported on the way.

Owns the order of things and the state that lives between steps. Knows nothing of who listens to the reports.

Randomness is named, never a running state: the order of an epoch, the views of a step and the initial weights
are functions of (seed, purpose, position). So a run resumed from a checkpoint continues exactly.

Names: N images of the global batch, n of this process; r_ND and z_ND are representations and embeddings.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adadim_core import distributed
from adadim_core.augmentation import augment
from adadim_core.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from adadim_core.data import load_dataset
from adadim_core.evaluation import embed, knn_accuracy
from adadim_core.export import save_encoder
from adadim_core.information import alignment, effective_rank, matrix_entropy, mutual_information, uniformity
from adadim_core.models import SelfSupervisedModel, build_encoder, build_projector
from adadim_core.objective import ObjectiveTerms, logged_information, objective
from adadim_core.optimizers import build_optimizer, learning_rate, load_optimizer_state
from adadim_core.precision import autocast, resolve_precision
from adadim_core.seeding import generator
from adadim_core.spec import ExperimentSpec
from adadim_core.weighting import AlphaPolicy, mutual_information_weight

ReportFn = Callable[[int, float, Mapping[str, float]], None]
"""Takes (step, epoch, values): steps done, the same in epochs, and measurements by canonical metric name."""

_STATE_VERSION = 1


def _ignore(step: int, epoch: float, values: Mapping[str, float]) -> None:
    """The report of a trainer that nobody listens to."""


class Trainer:
    """Trains one trial.

    With an initialised torch.distributed process group the processes train one model: `training.batch_size` is
    that of all of them together, every loss and information quantity is that of the global batch, and only rank 0
    reports. All of them must make the same calls.

    The information quantities (`h_r`, `i_rz`, `erank_r`, `erank_z`, `uniformity`, `loss_mi`) are those of the
    first view of the step's batch, before the step's update, without gradient.
    """

    def __init__(
        self, spec: ExperimentSpec, *, device: torch.device | str | None = None, report: ReportFn = _ignore
    ) -> None:
        """Build data, networks and optimiser; nothing is trained or reported yet.

        Args:
            spec: a trial's spec, without a search section.
            device: where to train; None: CUDA where there is any, else the CPU.
            report: called with every measurement, on the training thread.

        Raises:
            ValueError: the spec has a search section, or its batch size fits neither the data nor the processes.
        """
        if spec.search is not None:
            raise ValueError("a trainer takes one trial's spec: plan the search and use spec.with_params")
        self.spec = spec
        self.device = _pick_device(device)
        self._report = report
        self._data = load_dataset(spec.data.dataset).to(self.device)
        self._recipe = self._data.augmentation.with_spec(spec.data.augmentation)
        self._dtype = resolve_precision(spec.training.precision, self.device)
        self._share = _share_of_batch(spec.training.batch_size, self._data.name, len(self._data.train_images))

        self.step = 0
        self.epochs = spec.training.epochs
        self.steps_per_epoch = len(self._data.train_images) // spec.training.batch_size
        self._total_steps = self.epochs * self.steps_per_epoch

        self._model = self._build_model()
        self._training_model = self._wrap(self._model)
        self._optimizer = build_optimizer(self._model, spec.training)
        self._alpha_policy = AlphaPolicy(spec.objective.weighting)
        self._last: dict[str, float] = {}
        self._images_since_report = 0
        self._clock = time.perf_counter()

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.steps_per_epoch

    @property
    def done(self) -> bool:
        """Whether every epoch of the spec is trained."""
        return self.step >= self._total_steps

    def fit(self) -> dict[str, float]:
        """Train the epochs that remain. Returns the last value of every metric."""
        while not self.done:
            self.train_epoch()
        return dict(self._last)

    def train_epoch(self) -> dict[str, float]:
        """Train one epoch and evaluate if that is due. Returns the last value of every metric.

        Raises:
            RuntimeError: all epochs are done.
        """
        if self.done:
            raise RuntimeError(f"all {self.epochs} epochs are done")
        epoch = self.epoch
        if self.step % self.steps_per_epoch == 0:
            self._measure_before_epoch(epoch)
        order = self._order(epoch)
        batch_size = self.spec.training.batch_size
        self._training_model.train()
        self._restart_clock()
        while self.epoch == epoch:
            start = self.step % self.steps_per_epoch * batch_size
            self._train_step(order[start : start + batch_size][self._share])
        if self.done or self.epoch % self.spec.evaluation.every_epochs == 0:
            self._publish({"knn_top1": self.evaluate()})
        return dict(self._last)

    def evaluate(self) -> float:
        """Accuracy of weighted k-nearest-neighbour classification of the held-out images by R, in [0, 1]."""
        settings, data = self.spec.evaluation, self._data
        encoder, batch_size = self._model.encoder, max(self.spec.training.batch_size, 256)
        with autocast(self.device, self._dtype):
            bank_ND = embed(encoder, data.train_images, batch_size=batch_size)
            queries_MD = embed(encoder, data.test_images, batch_size=batch_size)
        return knn_accuracy(
            bank_ND,
            data.train_labels,
            queries_MD,
            data.test_labels,
            k=settings.knn_k,
            temperature=settings.knn_temperature,
        )

    def _train_step(self, rows_n: Tensor) -> None:
        alpha, beta = self._weights()
        last_of_epoch = (self.step + 1) % self.steps_per_epoch == 0
        logging = last_of_epoch or (self.step + 1) % self.spec.training.log_every_steps == 0
        lr = self._set_learning_rate()

        views = self._views(rows_n, "step", self.step)
        with autocast(self.device, self._dtype):
            r, z = self._training_model(views)
        z1_ND, z2_ND = distributed.gather_views(z.float()).unbind()
        r1_ND = None
        if beta or logging:
            # R is gathered with gradients only where the loss depends on it.
            r = r.float() if beta else r.detach().float()
            r1_ND = distributed.gather_views(r)[0]
        terms = objective(self.spec.objective, z1_ND, z2_ND, r1_ND, alpha=alpha, beta=beta)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total)
        self._optimizer.step()
        self.step += 1
        self._images_since_report += self.spec.training.batch_size
        if logging and r1_ND is not None:
            values = self._measurements(terms, r1_ND.detach(), z1_ND.detach(), z2_ND.detach())
            speed = self._images_since_report / (time.perf_counter() - self._clock)
            self._publish({**values, "alpha": alpha, "beta": beta, "lr": lr, "images_per_s": speed})
            self._restart_clock()

    @torch.no_grad()
    def _measurements(self, terms: ObjectiveTerms, r1: Tensor, z1: Tensor, z2: Tensor) -> dict[str, float]:
        """The losses and information quantities of a step, brought to the host in one go."""
        values = {
            "loss": terms.total,
            "loss_dimension": terms.dimension,
            "loss_sample": terms.sample,
            "loss_mi": logged_information(self.spec.objective, terms, r1, z1),
            **self._information(r1, z1),
            "uniformity": uniformity(z1),
            "alignment": alignment(z1, z2),
        }
        return _to_host(values)

    def _information(self, r1: Tensor, z1: Tensor) -> dict[str, Tensor]:
        order = self.spec.objective.mutual_information.order
        return {
            "h_r": matrix_entropy(r1, center=True),
            "i_rz": mutual_information(r1, z1, order=order, center=True),
            "erank_r": effective_rank(r1),
            "erank_z": effective_rank(z1),
        }

    @torch.no_grad()
    def _measure_before_epoch(self, epoch: int) -> None:
        """Measure ER(Z) for the adaptive alpha where that is due, and the starting point of the curves at step 0.

        Batches are drawn and augmented like those of training, and normalised with their own statistics; the
        running statistics of the network are left alone.
        """
        due = self._alpha_policy.measurement_batches(epoch)
        batches = min(max(due, int(self.step == 0)), self.steps_per_epoch)
        if not batches:
            return
        order = self._order(epoch, purpose="measurement")
        batch_size = self.spec.training.batch_size
        ranks: list[Tensor] = []
        information: dict[str, Tensor] = {}
        self._model.train()
        with _frozen_statistics(self._model):
            for batch, rows_N in enumerate(torch.split(order, batch_size)[:batches]):
                views = self._views(rows_N[self._share], "measurement", epoch, batch, views=1)
                with autocast(self.device, self._dtype):
                    r, z = self._model(views)
                z_ND = distributed.gather(z.float()).flatten(0, 1)
                if due:
                    ranks.append(effective_rank(z_ND))
                if self.step == 0 and batch == 0:
                    information = self._information(distributed.gather(r.float()).flatten(0, 1), z_ND)
        if ranks:
            mean_rank = distributed.broadcast_float(torch.stack(ranks).mean().item(), self.device)
            self._alpha_policy.observe(mean_rank, n=batch_size, d=self.spec.model.projector.out)
        if information:
            alpha, beta = self._weights()
            self._publish({**_to_host(information), "alpha": alpha, "beta": beta})

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
            warmup_steps=settings.warmup_epochs * self.steps_per_epoch,
            total_steps=self._total_steps,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _order(self, epoch: int, purpose: str = "order") -> Tensor:
        """A permutation of the training images, on the device."""
        source = generator(self.spec.training.seed, purpose, epoch)
        return torch.randperm(len(self._data.train_images), generator=source).to(self.device)

    def _views(self, rows_n: Tensor, *purpose: str | int, views: int = 2) -> Tensor:
        """(views * n, C, H, W): this process's share of the batch, augmented as it would be in one process."""
        return augment(
            self._data.train_images[rows_n],
            self._recipe,
            generator(self.spec.training.seed, "augmentation", *purpose),
            views=views,
            total=self.spec.training.batch_size,
            offset=self._share.start,
        )

    def _publish(self, values: dict[str, float]) -> None:
        self._last.update(values)
        if distributed.rank() == 0:
            self._report(self.step, self.step / self.steps_per_epoch, values)

    def _restart_clock(self) -> None:
        self._images_since_report = 0
        self._clock = time.perf_counter()

    def _build_model(self) -> SelfSupervisedModel:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator(self.spec.training.seed, "weights").initial_seed())
            encoder = build_encoder(self.spec.model, mean=self._data.mean, std=self._data.std)
            model = SelfSupervisedModel(encoder, build_projector(self.spec.model.projector, encoder.features))
        distributed.synchronize_batch_norm(model, self.device)
        model.to(self.device)
        for weight in model.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return model

    def _wrap(self, model: SelfSupervisedModel) -> nn.Module:
        if distributed.world_size() == 1:
            return model
        ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly: model, optimiser, alpha, position and last metrics.

        The tensors are the live ones; save or copy them before training on. The learning-rate schedule and all
        random numbers follow from the position.
        """
        return {
            "version": _STATE_VERSION,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "alpha_policy": self._alpha_policy.state_dict(),
            "last": dict(self._last),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a trainer with the same networks, optimiser, data and batch size.

        Settings come from this trainer's spec, not from the state: learning rate, weight decay and weighting may
        differ from those the state was trained with.

        Raises:
            CheckpointError: the state is of another version or does not fit this spec.
        """
        if state.get("version") != _STATE_VERSION:
            raise CheckpointError(f"the state has version {state.get('version')!r}, not {_STATE_VERSION}")
        try:
            if state["steps_per_epoch"] != self.steps_per_epoch:
                raise CheckpointError(
                    f"the state has {state['steps_per_epoch']} steps an epoch, this spec {self.steps_per_epoch}"
                )
            self._model.load_state_dict(state["model"])
            load_optimizer_state(self._optimizer, state["optimizer"])
            self._alpha_policy.load_state_dict(state["alpha_policy"])
            self.step, self._last = int(state["step"]), dict(state["last"])
        except CheckpointError:
            raise
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"the state does not fit this spec: {error}") from error

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all. With several processes, call it on one."""
        write_checkpoint(Path(path), self.state_dict())

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is truncated or damaged, or its state does not fit this spec.
        """
        self.load_state_dict(read_checkpoint(Path(path), self.device))

    def export_encoder(self, directory: Path) -> None:
        """Write encoder.safetensors and encoder.json; `adadim_core.load_encoder` reads them back."""
        save_encoder(self._model.encoder, Path(directory))


class _frozen_statistics:  # noqa: N801
    """Within it, BatchNorm uses the statistics of its batch without recording them."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())

    def __enter__(self) -> None:
        self._saved = [buffer.clone() for buffer in self._buffers]

    def __exit__(self, *_: object) -> None:
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(saved)


def _share_of_batch(batch_size: int, name: str, images: int) -> slice:
    """The part of each global batch that this process works on."""
    world = distributed.world_size()
    if batch_size > images:
        raise ValueError(f"training.batch_size ({batch_size}) is larger than the {images} training images of {name}")
    if batch_size % world:
        raise ValueError(f"training.batch_size ({batch_size}) must be a multiple of the {world} processes")
    share = batch_size // world
    return slice(distributed.rank() * share, (distributed.rank() + 1) * share)


def _to_host(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalar tensors as numbers, with one synchronisation."""
    return dict(zip(values, torch.stack([v.detach().double() for v in values.values()]).tolist(), strict=True))


def _pick_device(device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
