"""Part study: the study's main table at full width on all images (docs/study/specs), for as many epochs as fit.

By the product, four trials at a time on the card. All train equally long; the length is set by the speed of the first
steps. Its spec in the repository has the epochs of the results that are stored.
"""

import copy
import time
from typing import Any

import study
import yaml

from adadim_core import Trainer
from adadim_core.spec import validate_spec
from adadim_core.spec.plan import plan_trials
from gpu.settings import WARM_UP_STEPS, Record, Settings
from gpu.sweeps import run_sweeps

_RESERVE = 0.85
_STARTING_SECONDS = 40.0
"""Of Ray, of the trials' processes, and writing the results."""


def run(settings: Settings, record: Record) -> None:
    began = time.monotonic()
    if not settings.smoke and study.FULL_WIDTH in study.stored():
        record.put("skipped", "its results are stored")
        return
    if not settings.smoke and not study.ALL_IMAGES.exists():
        record.put("skipped", f"{study.ALL_IMAGES.name} is not there: benchmarks/study.py data ARCHIVE --all writes it")
        return
    document = yaml.safe_load(study.specs()[study.FULL_WIDTH].read_text())
    document["data"] = {"dataset": "npz", "path": str(settings.images if settings.smoke else study.ALL_IMAGES)}
    epoch_s, ending_s, replayed = _speed(settings, document)
    trials = len(plan_trials(validate_spec(document)))
    left = settings.seconds - (time.monotonic() - began)
    epochs = int(((left - _STARTING_SECONDS) * _RESERVE / trials - ending_s) / epoch_s)  # evaluated once, at the end
    plan = {"epochs": epochs, "trials": trials, "epoch_s": epoch_s, "ending_s": ending_s, "replayed": replayed}
    record.put("plan", plan)
    if epochs < 1 and not settings.smoke:
        record.put("skipped", f"{left:.0f} s are not enough for an epoch of each trial")
        return
    document["training"]["epochs"] = max(epochs, 1)
    document["evaluation"]["every_epochs"] = max(epochs, 1)
    run_sweeps(settings, record, {study.FULL_WIDTH: document}, seconds=left)


def _speed(settings: Settings, document: dict[str, Any]) -> tuple[float, float, bool]:
    """Seconds of an epoch, those of an evaluation, and whether steps are replayed."""
    measured = copy.deepcopy(document)
    del measured["search"]
    measured["training"]["epochs"] = 1000
    if settings.smoke:
        measured["model"] = settings.model("resnet18", 64)
        measured["training"]["batch_size"] = 64
    trainer = Trainer(validate_spec(measured), device=settings.device)
    trainer.train_steps(WARM_UP_STEPS)
    trainer.evaluate()
    settings.wait()
    began = time.monotonic()
    trainer.evaluate()
    settings.wait()
    ending = time.monotonic() - began
    steps = 3 if settings.smoke else 40
    began = time.monotonic()
    trainer.train_steps(steps)
    settings.wait()
    return (time.monotonic() - began) / steps * trainer.steps_per_epoch, ending, trainer.replays
