"""Part study: which weighting is best, for as many epochs and seeds as there is time: the table the method is about.

ResNet-18 at full width, batch 256, LARS 0.3, projector 2048-2048-2048: fixed alpha 0, 0.5 and 1, and adaptive. All
configurations train equally long, a seed at a time. The length is set by the speed of the first steps.
"""

import time
from typing import Any

from adadim_core import Trainer
from adadim_core.spec import validate_spec
from gpu.settings import WARM_UP_STEPS, Record, Settings

_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "fixed 0": {"policy": "fixed", "alpha": 0.0},
    "fixed 0.5": {"policy": "fixed", "alpha": 0.5},
    "fixed 1": {"policy": "fixed", "alpha": 1.0},
    "adaptive": {"policy": "adaptive"},
}
_ENOUGH_EPOCHS = 20
"""Longer than this, and a second seed is worth more than more epochs."""
_RESERVE = 0.9
_SHOWN = ("knn_top1", "h_r", "i_rz", "erank_r", "erank_z", "alpha", "loss")


def run(settings: Settings, record: Record) -> None:
    began = time.monotonic()
    epoch_s, ending_s, replayed = _speed(settings)
    left = (settings.seconds - (time.monotonic() - began)) * _RESERVE
    runs = len(_CONFIGURATIONS)
    epochs = max(1, int((left / runs - ending_s) / epoch_s))
    seeds = max(1, epochs // _ENOUGH_EPOCHS)
    epochs = 1 if settings.smoke else max(1, int((left / (runs * seeds) - ending_s) / epoch_s))
    seeds = 1 if settings.smoke else seeds
    plan = {"epochs": epochs, "seeds": seeds, "epoch_s": epoch_s, "ending_s": ending_s, "replayed": replayed}
    record.put("plan", plan)
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        for name, weighting in _CONFIGURATIONS.items():
            rows.append(
                {
                    "configuration": name,
                    "seed": seed,
                    **_trial(settings, weighting, epochs, seed),
                }
            )
            record.put("trials", rows)


def _document(settings: Settings, weighting: dict[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    return {
        "name": "study",
        "data": settings.data(),
        "model": settings.model("resnet18", 64),
        "objective": {"weighting": weighting},
        "training": {
            "epochs": epochs,
            "batch_size": 64 if settings.smoke else 256,
            "seed": seed,
            "precision": settings.precision,
            "warmup_epochs": epochs // 10,
            "log_every_steps": 50,
        },
        "evaluation": {"every_epochs": epochs},
    }


def _speed(settings: Settings) -> tuple[float, float, bool]:
    """Seconds of an epoch, those of what comes on top in each trial (building, the first steps, evaluation), and
    whether steps are replayed."""
    began = time.monotonic()
    trainer = Trainer(validate_spec(_document(settings, {"policy": "adaptive"}, 1000, 0)), device=settings.device)
    trainer.train_steps(WARM_UP_STEPS)
    trainer.evaluate()
    settings.wait()
    ending = time.monotonic() - began
    steps = 3 if settings.smoke else 40
    began = time.monotonic()
    trainer.train_steps(steps)
    settings.wait()
    return (time.monotonic() - began) / steps * trainer.steps_per_epoch, ending, trainer.replays


def _trial(settings: Settings, weighting: dict[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    trainer = Trainer(validate_spec(_document(settings, weighting, epochs, seed)), device=settings.device)
    metrics = trainer.fit()
    return {**{name: metrics[name] for name in _SHOWN}, "epochs": trainer.epoch, "seconds": time.monotonic() - began}
