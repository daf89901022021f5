"""One trial from its plan to its result file: train, report, checkpoint, resume, export. Free of Ray.

Owns the trial's files and the order in which they are written. Processes and
Ray Tune are actor.py's for trials of one process and distributed.py's for those of several.
"""

import logging
import math
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadim_core.spec import ExperimentSpec, TrialPlan
from adadim_core.spec.metrics import METRICS
from adadim_core.storage import layout
from workers.context import RunContext
from workers.log import OutputLog
from workers.reporting.reporter import PointReporter
from workers.storage.data_record import REMEDY, keep_data, known_data
from workers.storage.ranking import decisive_metric
from workers.storage.spool import Spool
from workers.storage.trial_result import TrialResult, chosen, read_result, write_result
from workers.trial.failures import Diverged

if TYPE_CHECKING:
    from adadim_core.trainer import Trainer

logger = logging.getLogger(__name__)

# At most about this much work is lost when a process dies, unless saving would cost more than 5 % of the time.
_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.05
_PART_SECONDS = 1.0
_INTERRUPTED_SECONDS = 0.1


class TrialRun:
    """Trains one trial in this process, resuming from its checkpoint if it has one.

    With several processes a trial (torch.distributed initialised), all of them step and only the one that
    `leads` writes.
    """

    def __init__(
        self,
        context: RunContext,
        plan: TrialPlan,
        reporter: PointReporter,
        stop: threading.Event,
        *,
        device: Any = None,
        leads: bool = True,
    ) -> None:
        """
        Args:
            context: The run it belongs to.
            plan: The trial.
            reporter: Takes its metric points.
            stop: Set once the run is ending: the trial saves and trains no further.
            device: Where to train; None: the trainer chooses.
            leads: Whether this process writes and reports.
        """
        context.storage.fetch(context.storage.params(plan.number))
        self.plan = chosen(context.storage, plan)
        self._context = context
        self._storage = context.storage
        self._device = device
        self._ended = False
        self._leads = leads
        self._stop = stop
        self._steps_per_second = 0.0
        self.interrupted = False
        """The run is ending: the trial is saved as it is, perhaps within an epoch."""
        self._began = self._saved = time.monotonic()
        self._save_cost = 0.0
        if leads:
            self._storage.take_up_log(self._storage.trial_log(plan.number))
        self._log = OutputLog(self._storage.trial_log(plan.number)) if leads else None
        self._spool: Spool | None = None
        self._saved_step = -1
        try:
            if leads:
                self._spool = reporter.open(self._storage.spool(plan.number, context.run), plan.number)
            self.trainer = self._trainer_from(plan.number, self.plan)
            self._check_data()
        except BaseException:
            self._fail()
            raise
        self._metrics = self.trainer.metrics
        self._note(f"{socket.gethostname()} process {os.getpid()}: {self.plan.params or 'as specified'}, "
                   f"from epoch {self.trainer.epoch} on")  # fmt: skip

    @property
    def done(self) -> bool:
        return self._ended or bool(self.trainer.done)

    def step(self) -> dict[str, float]:
        """Train one epoch; after the last one write encoder and result. Returns the last value of every metric.

        Once the run is ending it returns within about a second, `interrupted`.

        Raises:
            Diverged: the loss is no number any more.
        """
        try:
            metrics = self._metrics if self.done else self._train_epoch()
        except BaseException:
            self._note(traceback.format_exc())  # whoever reads a trial's log looks for just that
            raise
        if metrics is None:
            return {}
        self._metrics = metrics
        values = "  ".join(f"{name} {value:.5g}" for name, value in metrics.items())
        self._note(f"epoch {self.trainer.epoch}/{self.trainer.epochs}  {values}")
        loss = metrics.get("loss", 0.0)
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at step {self.trainer.step}; a smaller training.lr may help")
        if not self._leads:
            return metrics
        if self.done:
            collapsed = self.trainer.collapsed_at if self.trainer.epoch < self.trainer.epochs else None
            self._finish(None if collapsed is None else f"collapsed at step {collapsed}")
        else:
            self._save_if_due()
        return metrics

    def result(self, metrics: dict[str, float]) -> dict[str, Any]:
        """The result of a step, as Ray Tune takes it."""
        if self.interrupted:
            time.sleep(_INTERRUPTED_SECONDS)  # Tune asks for step after step until the driver has ended
            metrics = {}
        trainer = self.trainer
        position = {"epoch": trainer.epoch, "epochs": trainer.epochs, "done": self.done}
        return {**metrics, **position, "interrupted": self.interrupted}

    def save(self) -> None:
        """Store a checkpoint, unless there is one of this step.

        The points measured up to it are stored before it, so that none can be missing.
        """
        if self._saved_step == self.trainer.step:
            return
        began = time.monotonic()
        path = self._storage.checkpoint(self.plan.number)
        self.trainer.save(path)
        try:
            self._storage.push(*self._spool_files(), path, patience=0)
            self._saved_step = self.trainer.step
        except OSError as error:
            logger.warning("the checkpoint of trial %d did not reach the storage: %s", self.plan.number, error)
        self._saved = time.monotonic()
        self._save_cost = self._saved - began

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= max(_CHECKPOINT_SECONDS, self._save_cost / _CHECKPOINT_SHARE):
            self.save()

    def _train_epoch(self) -> dict[str, float] | None:
        """Train in parts of about a second, so that an epoch of hours can be saved and stopped within.

        Returns None if it was stopped within.
        """
        from adadim_core.distributed import broadcast_float

        trainer = self.trainer
        metrics: dict[str, float] = {}
        left = trainer.steps_per_epoch - trainer.step % trainer.steps_per_epoch
        while left and not self.done:
            part = max(1, round(min(left, self._steps_per_second * _PART_SECONDS)))
            # All processes of a trial must take the same steps: those that the first one says.
            part = int(broadcast_float(0.0 if self._stop.is_set() else float(part), trainer.device))
            if not part:
                if self._leads and not self.interrupted:
                    self.save()
                self.interrupted = True
                return None
            began = time.monotonic()
            metrics = trainer.train_steps(part)
            self._steps_per_second = part / (time.monotonic() - began)
            left -= part
            if left and self._leads:
                self._save_if_due()
        return metrics

    def _spool_files(self) -> list[Path]:
        return [] if self._spool is None else [self._spool.path, self._spool.path.with_suffix(".ack")]

    def end_early(self, reason: str) -> dict[str, float]:
        """End here, after a whole epoch: write encoder and result as they are. Returns what `step` would."""
        if self.done and not self._ended:  # all epochs are trained, and the process died before its result was written
            return self.step()
        if self._leads and not self.done and self.trainer.epoch % self.trainer.spec.evaluation.every_epochs:
            self._metrics = self.trainer.evaluate_and_report()  # it is ranked by the metrics of its last epoch
        if self._leads and not self.done and self.trainer.step:  # one that never began may do so in a later attempt
            self._finish(reason)
        self._ended = True
        return self._metrics

    def take_over(self, donor: int, params: dict[str, Any]) -> None:
        """Go on with the weights of another trial's checkpoint and with other values."""
        plan = TrialPlan(self.plan.number, params)
        trainer = self._trainer_from(donor, plan)
        if trainer.step == 0:
            logger.warning("trial %d has no checkpoint any more; trial %d keeps its weights", donor, plan.number)
            trainer.load_state_dict(self.trainer.state_dict())
        self.plan, self.trainer, self._saved_step = plan, trainer, -1
        self._metrics = trainer.metrics
        self.save()

    def close(self) -> None:
        """No more points will come from here."""
        if self._spool is not None:
            self._spool.close()
            try:
                self._storage.push(*self._spool_files(), patience=0)
            except OSError as error:
                logger.warning("points of trial %d did not reach the storage: %s", self.plan.number, error)
            self._spool = None
        if self._log is not None:
            self._log.close()
            self._storage.push_log(self._storage.trial_log(self.plan.number))
            self._log = None

    def _note(self, text: str) -> None:
        if self._log is not None:
            self._log.line(text)

    def _check_data(self) -> None:
        """Tell what is trained on, and see that it is what the experiment began with and can be ranked by.

        Raises:
            DataChangedError: other trials of the experiment trained on other images.
            DataError: the ranking metric cannot be measured on these.
        """
        from adadim_core.checkpoint import DataChangedError
        from adadim_core.data import DataError

        # By the path that the user wrote: the driver looks for the record by that.
        images, data = self.trainer.data, self._context.spec.with_params(self.plan.params).data
        for line in images.summary.lines():
            self._note(line)
        known = known_data(self._storage, data)
        if known is not None and known["fingerprint"] != images.summary.fingerprint:
            before, now = known["train"]["images"], len(images.train_images)
            raise DataChangedError(
                f"the data changed since this experiment began: then {before} training images (fingerprint "
                f"{known['fingerprint']}), now {now} (fingerprint {images.summary.fingerprint}); {REMEDY}"
            )
        metric = decisive_metric(self._context.spec)
        of_these = metric and METRICS[metric].needs_labels and METRICS[metric].asked_by != "transfer"
        if of_these and metric not in images.accuracy_metrics:
            why = images.summary.not_evaluated or f"its images have {images.summary.labels}"
            other = "h_r, i_rz, ..." if images.summary.not_evaluated else f"{images.accuracy_metrics[0]}, h_r, ..."
            raise DataError(f"search.metric {metric} cannot be measured on these images: {why}; take {other}")
        if known is None and self._leads:
            keep_data(self._storage, data, images.summary.to_json())

    def _fail(self) -> None:
        """The error goes into the trial's log too: whoever reads it looks for just that."""
        self._note(traceback.format_exc())
        self.close()

    def _trainer_from(self, number: int, plan: TrialPlan) -> "Trainer":
        """A trainer that resumes from the checkpoint of the trial with this number, if it has one."""
        from adadim_core.checkpoint import previous_checkpoint

        checkpoint = self._storage.checkpoint(number)
        self._storage.fetch(previous_checkpoint(checkpoint))
        self._storage.fetch(checkpoint)
        report = self._spool.append if self._spool is not None else _unreported
        return _trainer(self._context.trial_spec(plan), self._device, report, checkpoint)

    def _finish(self, stopped: str | None) -> None:
        """Write what a finished trial leaves; `stopped` says why it ended before its last epoch, if it did."""
        folder, checkpoint = self._storage.trial(self.plan.number), self._storage.checkpoint(self.plan.number)
        folder.mkdir(parents=True, exist_ok=True)
        self.trainer.export_encoder(folder)
        self.trainer.save(checkpoint)
        exported = folder / "encoder.safetensors", folder / "README.md"
        self._storage.push(*self._spool_files(), *exported, checkpoint)
        write_result(  # last: what has a result is finished
            self._storage,
            TrialResult(
                number=self.plan.number,
                params=self.plan.params,
                state="stopped" if stopped else "succeeded",
                epoch=self.trainer.epoch,
                epochs=self.trainer.epochs,
                metrics=self._metrics,
                seconds=time.monotonic() - self._began,
                reason=stopped,
            ),
        )
        for copy in (*exported, *folder.glob(layout.CHECKPOINTS)):
            self._storage.clear_scratch(copy)


def _trainer(spec: ExperimentSpec, device: Any, report: Any, checkpoint: Path) -> "Trainer":
    # Imported here: the driver imports this module, and torch would cost it two seconds.
    import torch

    from adadim_core.checkpoint import CheckpointError, DataChangedError
    from adadim_core.trainer import Trainer

    torch.set_num_threads(spec.resources.cpus_per_worker)  # concurrent trials must not fight for a node's cores
    # Building an optimiser would import torch's compiler, only to keep it off: a second or two before the first point.
    # There is no public way to say so. tests/workers/test_trial.py fails where a torch takes no notice of this one.
    add = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    setattr(add, "__dynamo_disable", add)
    trainer = Trainer(spec, device=device, report=report)
    try:
        trainer.load(checkpoint)
    except FileNotFoundError:
        return trainer
    except DataChangedError as error:
        raise DataChangedError(f"{error}; {REMEDY}") from error
    except CheckpointError as error:
        logger.warning("%s; the trial starts again from its beginning", error)
        return Trainer(spec, device=device, report=report)
    return trainer


def finished_step(context: RunContext, number: int) -> dict[str, Any] | None:
    """What the last step of a trial returned, if it has a result already: its process died before Tune had it."""
    context.storage.fetch(context.storage.result(number))
    result = read_result(context.storage, number)
    return None if result is None else {**result.metrics, "epoch": result.epoch, "epochs": result.epochs, "done": True}


def _unreported(step: int, epoch: float, values: Mapping[str, float]) -> None:
    """The other processes of a distributed trial measure the same; one of them reports."""
