"""The training loop: from a trial's spec to a trained encoder, with every measurement reported on the way.

Owns the sequence of steps, measurements and evaluations. Does not own what a step computes (step), the batches
(batches), how measurements are reported (reports) or what a checkpoint holds (training_state). Knows nothing of who
listens to the reports.

Names: N images of the global batch, n of this process; r_ND and z_ND are representations and embeddings.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adadim_core import distributed
from adadim_core.batch_norm import frozen_statistics
from adadim_core.batches import Batches
from adadim_core.building import build_model, compile_in_place, load_images, pick_device, require_same_images
from adadim_core.checkpoint import remove_checkpoint, write_checkpoint
from adadim_core.data import ImageDataset
from adadim_core.export import save_encoder
from adadim_core.measurement import Measurement, measure_representations, measure_step
from adadim_core.memory import MemoryWatch
from adadim_core.model_card import model_card
from adadim_core.models import Encoder
from adadim_core.optimizers import learning_rate
from adadim_core.precision import arithmetic
from adadim_core.probe import OnlineProbe
from adadim_core.rank import RankMeter
from adadim_core.replay import ReplayedStep
from adadim_core.reports import ReportFn, Reports, ignore
from adadim_core.scoring import scores
from adadim_core.second_set import load_second_set
from adadim_core.spec import ExperimentSpec
from adadim_core.step import StepSettings, TrainingStep
from adadim_core.training_state import Parts, Position, restore, restore_from_file, state_of
from adadim_core.transfer import send
from adadim_core.weighting import AlphaPolicy, weights_at


class Trainer:
    """Trains one trial.

    With an initialised torch.distributed process group the processes train one model: `training.batch_size` is
    that of all of them together, every loss and information quantity is that of the global batch, and only rank 0
    reports. All of them must make the same calls.

    The information quantities (`h_r`, `i_rz`, `erank_r`, `erank_z`, `uniformity`, `loss_mi`) are those of the
    first view of the step's batch, before the step's update, without gradient. On a GPU a step's measurements are
    reported some steps later, before the next are taken, so that neither host nor device waits for the other.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        device: torch.device | str | None = None,
        report: ReportFn = ignore,
        backbone: str | None = None,
        data: ImageDataset | None = None,
    ) -> None:
        """Build data, networks and optimiser; nothing is trained or reported yet.

        Args:
            spec: a trial's spec, without a search section.
            device: where to train; None: CUDA if available, otherwise the CPU.
            report: called with every measurement, on the training thread.
            backbone: a network known through `register_backbone`, in place of the one the spec names.
            data: images of your own, in place of those the spec names (`parse_spec(..., own_data=True)`).

        Raises:
            TypeError: spec is something else.
            ValueError: the spec has a search section, the images are not square, or the batch size does not fit the
                data, the processes or the parts it is to be computed in.
            GpuMemoryError: the trial cannot fit on its share of the GPU.
        """
        if not isinstance(spec, ExperimentSpec):
            raise TypeError(
                f"a spec is needed, not a {type(spec).__name__}: parse_spec reads text, validate_spec a dict"
            )
        if spec.search is not None:
            raise ValueError("a trainer takes one trial's spec: plan the search and use spec.with_params")
        self.spec = spec
        self.device = pick_device(device)
        self._data = (data or load_images(spec.data)).to(self.device)
        require_same_images(self._data, self.device)
        self._second = load_second_set(spec.evaluation, self._data)
        self._batches = Batches(spec, self._data, self.device)

        self.step = 0
        self.epochs = spec.training.epochs
        self.steps_per_epoch = self._batches.steps_per_epoch
        self._total_steps = self.epochs * self.steps_per_epoch

        self._model = build_model(spec, self._data, self.device, backbone=backbone)
        self._memory = MemoryWatch(spec, self._model, self._data, self.device)
        self._training = TrainingStep(spec, self._model, self.device)
        if spec.training.compile is True:
            compile_in_place(self._model, self._batches.blank_views(), self._training.dtype)
        self._replayed = ReplayedStep(self._training) if self._may_be_replayed() else None
        self._alpha_policy = AlphaPolicy(spec.objective.weighting)
        self._probe = self._build_probe()
        self._reports = Reports(
            report, spec.training.collapse, steps_per_epoch=self.steps_per_epoch, device=self.device
        )

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
        return dict(self._reports.last)

    @property
    def replays(self) -> bool:
        """Whether steps are replayed as a CUDA graph by now."""
        return self._replayed is not None and self._replayed.replays

    @property
    def collapsed_at(self) -> int | None:
        """Step at which the collapse watch flagged the trial; None: it did not."""
        return self._reports.collapse.step

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

    @arithmetic()
    def train_steps(self, steps: int) -> dict[str, float]:
        """Train some steps, fewer where the trial is done before. Returns the last value of every metric.

        Between any two calls the trainer can be saved. However training is cut into calls, it is the same training,
        with the same reports. (But on a GPU, where a measurement is read a step late, a trial that stops on its
        collapse may train one step more.)

        Raises:
            RuntimeError: the trial is done.
            ValueError: steps < 1.
            GpuMemoryError: the GPU is full.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if self.done:
            ended = "" if self.step >= self._total_steps else f", stopped by its collapse at step {self.collapsed_at}"
            raise RuntimeError(f"the trial is done: {self.step} of {self._total_steps} steps{ended}")
        last = min(self.step + steps, self._total_steps)
        with self._memory.advice(), self._reports.usage.sampled():
            while self.step < last and not self.done:
                self._train_within_epoch(min(last, (self.epoch + 1) * self.steps_per_epoch))
        return self.metrics

    @arithmetic()
    def evaluate(self) -> dict[str, float]:
        """Scores of the representation of un-augmented images, by metric name: see `scoring.scores`."""
        # Without gradients, so never more memory than a step, which has two views of each image of a part.
        share = self._batches.share
        part = (share.stop - share.start) // self.spec.training.accumulate
        return scores(
            self._model,
            self._data,
            self.spec.evaluation,
            batch_size=max(2 * part, 32),
            dtype=self._training.dtype,
            probe=self._probe,
            final=self.done,
            second=self._second,
        )

    def evaluate_and_report(self) -> dict[str, float]:
        """Evaluate and report it, for a trial that is to end where no evaluation is due.

        Returns the last value of every metric. With several processes, call it on the first.
        """
        self._reports.publish(self.step, self.evaluate())
        return self.metrics

    def _train_within_epoch(self, last: int) -> None:
        """Train up to a step of the epoch under way, with what is due before its first and after its last step."""
        if self.step % self.steps_per_epoch == 0:
            self._measure_before_epoch(self.epoch)
        order = self._batches.order(self.epoch)
        batch_size = self._batches.size
        self._reports.restart_clock()
        start = self.step % self.steps_per_epoch * batch_size
        rows = torch.split(order[start : start + (last - self.step) * batch_size], batch_size)
        with arithmetic(tune=True), self._batches.images(rows) as batches:
            for rows_N, images in zip(rows, batches, strict=True):
                self._train_step(rows_N, images)
                if self.done:
                    break
        self._reports.settle()
        epoch_ended = self.step % self.steps_per_epoch == 0
        if self.done or (epoch_ended and self.epoch % self.spec.evaluation.every_epochs == 0):
            self._reports.publish(self.step, self.evaluate())

    def _train_step(self, rows: Tensor, images: Tensor) -> None:
        settings = self._settings()
        logging_due = self._logging_due()
        views = self._batches.views(images, "step", self.step)
        if self._replayed is not None:
            batch = self._replayed.run(views, settings, step=self.step)
        else:
            needs_r = logging_due or self._probe is not None
            batch = self._training.run(views, settings, step=self.step, needs_r=needs_r)
        if self._probe is not None and batch.r1 is not None:
            self._probe.learn(batch.r1, self._data.train_labels[send(rows, self.device)])
        self.step += 1
        self._reports.count(self._batches.size)
        self._reports.settle_if_read()
        if logging_due and batch.r1 is not None:
            order = self.spec.objective.mutual_information.order
            dtype = self._training.dtype
            measured = measure_step(batch.terms, batch.r1, batch.z1, batch.z2, order=order, computed_in=dtype)
            self._reports.take(self.step, measured, settings.metrics())

    def _may_be_replayed(self) -> bool:
        """Whether steps are replayed as a CUDA graph, as far as spec and device say."""
        return self.spec.training.compile is not False and self.device.type == "cuda" and distributed.world_size() == 1

    def _settings(self) -> StepSettings:
        """Weights of the losses and learning rate of the next step."""
        settings = self.spec.training
        lr = learning_rate(
            self.step,
            peak=settings.lr,
            warmup_steps=settings.warmup * self.steps_per_epoch,
            total_steps=self._total_steps,
        )
        alpha, beta = self._weights()
        return StepSettings(alpha, beta, lr)

    def _weights(self) -> tuple[float, float]:
        """alpha and signed beta of the next step."""
        objective, policy = self.spec.objective, self._alpha_policy
        return weights_at(self.step, objective, policy, steps_per_epoch=self.steps_per_epoch, epochs=self.epochs)

    def _logging_due(self) -> bool:
        """Whether the next step is to be measured."""
        done = self.step + 1
        return done % self.steps_per_epoch == 0 or done % self.spec.training.log_every_steps == 0

    @torch.no_grad()
    def _measure_before_epoch(self, epoch: int) -> None:
        """Measure ER(Z) for the adaptive alpha if it is due, and the starting point of the curves at step 0.

        Batches are drawn and augmented like those of training, and normalised with their own statistics; the
        running statistics of the network are left alone.
        """
        steps, batch_size, dtype = self.steps_per_epoch, self._batches.size, self._training.dtype
        due = self._alpha_policy.measurement_batches(epoch, steps=steps, batch_size=batch_size)
        batches = min(max(due, int(self.step == 0)), self.steps_per_epoch)
        if not batches:
            return
        order = self._batches.order(epoch, purpose="measurement")
        rank = RankMeter(self._alpha_policy.pooled_rows, computed_in=dtype)
        measured: Measurement | None = None
        self._model.train()
        rows = torch.split(order, batch_size)[:batches]
        with frozen_statistics(self._model), self._batches.images(rows) as stream:
            for batch, images in enumerate(stream):
                views = self._batches.views(images, "measurement", epoch, batch, views=1)
                r, z = self._training.embed_in_parts(views, self.step, batch)
                z_ND = distributed.gather(z).flatten(0, 1)
                if due:
                    rank.take(z_ND)
                if self.step == 0 and batch == 0:
                    information_order = self.spec.objective.mutual_information.order
                    r_ND = distributed.gather(r).flatten(0, 1)
                    measured = measure_representations(r_ND, z_ND, order=information_order, computed_in=dtype)
        if due:
            found = distributed.broadcast_float(rank.value().item(), self.device)
            self._alpha_policy.observe(found, n=rank.n, d=self.spec.model.projector.out, epoch=epoch)
        if measured is not None:
            alpha, beta = self._weights()
            values = self._reports.watched(self.step, {**measured.values(), "alpha": alpha, "beta": beta})
            self._reports.publish(self.step, values)

    def _build_probe(self) -> OnlineProbe | None:
        if self.spec.evaluation.linear_probe != "online" or "linear_top1" not in self._data.accuracy_metrics:
            return None
        classes = int(max(self._data.train_labels.max(), self._data.test_labels.max())) + 1
        return OnlineProbe(self._model.encoder.features, classes, self.device)

    def _parts(self) -> Parts:
        return Parts(
            self._model,
            self._training.optimizer,
            self._alpha_policy,
            self._training.balance,
            self._reports.collapse,
            self._probe,
            {
                "images": len(self._data.train_images),
                "batch_size": self._batches.size,
                "fingerprint": self._data.summary.fingerprint,
            },
        )

    def _continue_from(self, position: Position) -> None:
        self.step, self._reports.last = position.step, position.last
        if self._replayed is not None:
            self._replayed.forget()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue exactly: model, optimiser, alpha, watch, probe, position and last metrics.

        The tensors are the live ones; save or copy them before training on. The learning-rate schedule and all
        random numbers follow from the position.
        """
        return state_of(self._parts(), Position(self.step, self.metrics))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a trainer with the same networks, optimiser, data and batch size.

        Settings come from this trainer's spec, not from the state: learning rate, weight decay and weighting may
        differ from those the state was trained with.

        Raises:
            CheckpointError: the state is of another version or does not fit this spec; the networks stay as they were.
        """
        self._continue_from(restore(self._parts(), state))

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all, and keep the previous one beside it.

        With several processes, call it on one.
        """
        write_checkpoint(Path(path), self.state_dict())

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote or, if it is damaged, from the previous one, with a warning.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the files are truncated or damaged, or the state does not fit this spec.
            OSError, RuntimeError: a file could not be read, or its tensors not be held; the file may be fine. Or not
                all processes found the same step.
        """
        self._continue_from(restore_from_file(self._parts(), Path(path), self.device))

    @staticmethod
    def remove_checkpoint(path: Path) -> None:
        """Remove the files that `save` wrote for a path."""
        remove_checkpoint(Path(path))

    def export_encoder(self, directory: Path) -> None:
        """Write encoder.safetensors, which `adadim_core.load_encoder` reads, and README.md, a model card."""
        encoder = self._model.encoder
        card = model_card(
            self.spec,
            encoder,
            self._reports.last,
            data=self._data.summary,
            step=self.step,
            epoch=self.epoch,
            collapsed=self.collapsed_at,
        )
        save_encoder(encoder, Path(directory), card=card, fingerprint=self._data.summary.fingerprint)
