"""Ray Tune's view of trials of one process: an actor that trains one trial after the other, one epoch a step.

Owns the results that Tune sees. The training, its files and its reports are run.py's.
"""

import logging
from typing import Any

import ray
from ray import tune
from ray.train._internal.session import _TrainingResult

from adadim_core.spec import TrialPlan
from workers.context import RunContext
from workers.reporting.reporter import FLUSH_SECONDS, PointReporter
from workers.trial.failures import Failures, describe, device_is_lost, failed_step, is_final
from workers.trial.log_tail import LogTail
from workers.trial.run import TrialRun, finished_step
from workers.trial.stop_signal import stop_signal

logger = logging.getLogger(__name__)

_KEEP_SECONDS = 60.0
"""How long a trial waits for the weights it is to take over."""


class TrialActor(tune.Trainable):
    """Ray Tune's view of trials on one device. Reused: torch is imported and data is loaded once, not once a trial.

    Nothing heavy happens before the first step: Tune at times gives a trial to an actor that is free earlier, and
    waits for the one still starting only to stop it.
    """

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],  # noqa: ARG002 - as in reset_config
        context: RunContext,  # what tune.with_parameters passes
    ) -> None:
        logging.getLogger("ray.tune").setLevel(logging.WARNING)  # a line for every change of turns
        logging.getLogger("ray.train").setLevel(logging.WARNING)
        self._context = context
        self._reporter = PointReporter(context.service)
        self._run: TrialRun | None = None
        self._device_lost = False
        self._early = ""
        self._log = LogTail()

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune has stored it as self.config
        self._end()
        self._early, self._log = "", LogTail()
        return True

    def step(self) -> dict[str, Any]:
        """One epoch. What the trial raises is its result, so that this process lives on for the next trial."""
        number = self.config["trial"]
        while True:
            if self._device_lost:
                # Every CUDA call here would fail. Not in `reset_config`: Tune recovers a trial that it has running.
                ray.actor.exit_actor()  # type: ignore[no-untyped-call]
            try:
                if self._run is None:
                    if (ended := finished_step(self._context, number)) is not None:
                        return ended
                    plan = TrialPlan(number, self.config["params"])
                    self._run = TrialRun(self._context, plan, self._reporter, stop_signal(self._context.run))
                return self._run.result(self._run.end_early(self._early) if self._early else self._run.step())
            except Exception as error:  # noqa: BLE001 - whatever training raises fails this trial only
                self._end()
                self._device_lost = device_is_lost()
                failures = Failures(self._context, number)
                failures.add(describe(error, self._log.lines()))
                if failures.count > self._context.spec.resources.max_failures or is_final(error):
                    return failed_step(error, failures.account)
                # In one line: the last lines of this log are part of the account, should the trial fail in the end.
                cause = failures.account.splitlines()[0]
                logger.warning("trial %d resumes from its last checkpoint after: %s", number, cause)

    def end_early(self, reason: str) -> None:
        """End the trial early: its next step writes encoder and result, and is its last."""
        self._early = reason

    def take_over(self, donor: int, params: dict[str, Any], stored: list["ray.ObjectRef[None]"]) -> None:
        """Go on with another trial's weights, once they are stored, and with other values."""
        if self._run is None:
            return
        if stored:
            ray.wait(stored, timeout=_KEEP_SECONDS)
        try:
            self._run.take_over(donor, params)
        except Exception:  # no caller sees what this raises
            logger.exception("trial %d resumes from its own checkpoint", self._run.plan.number)
            self._end()  # with the new values: they are on record

    def keep(self) -> None:
        """Store a checkpoint now: another trial may want these weights."""
        try:
            if self._run is not None:
                self._run.save()
        except Exception:  # no caller sees what this raises
            logger.exception("trial %d", self.config["trial"])

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:  # noqa: ARG002 - trials keep their own
        """Tune lets another trial have this process, and gives this trial one later, perhaps on another node.

        In place of `save_checkpoint`: what that returns Tune would store in a folder all nodes share, if there is one.
        Without a checkpoint of Tune's there is nothing to restore; the first step resumes from the trial's own. Tune
        wants an object of its own for an answer, which has no public name.
        """
        if self._run is not None:
            self._run.save()
        return _TrainingResult(checkpoint=None, metrics={})

    def cleanup(self) -> None:
        self._end()
        self._reporter.close(FLUSH_SECONDS)

    def _end(self) -> None:
        if self._run is not None:
            self._run.close()
        self._run = None
