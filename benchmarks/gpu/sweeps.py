"""Part sweeps: the study's sweeps (docs/study/specs) whose results are not stored yet, by the product, on the card.

All at once, several trials of each share the card; what they give is stored as `study.py collect` stores it. They need
the study's images (`study.py data`). It measures no time of its own.
"""

import contextlib
import subprocess
import time
from typing import Any

import study
import yaml

from adadim_core.report.run_folder import material_of_run
from adadim_core.spec import validate_spec
from adadim_core.spec.plan import plan_trials
from gpu.processes import end, start_workers
from gpu.settings import Record, Settings

_TRIALS_A_SLOT = 6
"""Sweeps of any size end at about the same time."""
_ENDING_SECONDS = 35.0
"""What starting Ray, ending the trials under way and writing their results takes at most."""


def run(settings: Settings, record: Record) -> None:
    if settings.smoke:
        run_sweeps(settings, record, {"temperature": _document("temperature")}, settings.seconds)
    elif not study.IMAGES.exists():
        record.put("skipped", f"{study.IMAGES.name} is not there: benchmarks/study.py data ARCHIVE writes it")
    else:
        stored = study.stored()
        missing = [name for name in study.specs() if name not in stored and name != study.FULL_WIDTH]
        if missing and settings.seconds < 2 * _ENDING_SECONDS:
            record.put(
                "skipped", f"{settings.seconds:.0f} s are too few for {', '.join(missing)}: give --parts, --budget"
            )
            return
        run_sweeps(settings, record, {name: _document(name) for name in missing}, settings.seconds)


def _document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(study.specs()[name].read_text())
    document["data"]["path"] = str(study.IMAGES)
    slots = max(1, round(len(plan_trials(validate_spec(document))) / _TRIALS_A_SLOT))
    return document | {"resources": {"gpus_per_worker": 1 / slots}}


def run_sweeps(settings: Settings, record: Record, documents: dict[str, dict[str, Any]], seconds: float) -> None:
    """Run sweeps at the same time, as far as they come within so many seconds, and store what they give.

    Args:
        settings: of the part.
        record: takes, for each, how many of its trials ended and what the product says of them.
        documents: their specs by the study's label.
        seconds: what there is for all of them.
    """
    began = time.monotonic()
    left = seconds - _ENDING_SECONDS
    running: dict[str, _Sweep] = {}
    failed = []
    try:
        for name, document in documents.items():
            running[name] = _Sweep(settings, name, document, left)
        for name, sweep in running.items():
            if not record.attempt(name, lambda s=sweep: s.result(began + seconds)):  # type: ignore[misc]
                failed.append(name)
    finally:
        for sweep in running.values():
            end(sweep.process)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


class _Sweep:
    """A `python -m workers` of its own."""

    def __init__(self, settings: Settings, name: str, document: dict[str, Any], seconds: float) -> None:
        self._name = name
        self._folder = settings.work / name
        self._results = settings.work if settings.smoke else study.RESULTS
        self._began = time.monotonic()
        spec = _tiny(settings, document) if settings.smoke else _within(document, seconds)
        self.process, self._output = start_workers(spec, self._folder)

    def result(self, deadline: float) -> dict[str, Any]:
        """Wait for its end and store what it gives, if it succeeded."""
        code: int | str = "none yet"
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
        if code != 0:
            raise RuntimeError(f"exit code {code}: {self._output.read_text()[-800:]}")
        material = material_of_run(self._folder, study.CURVES)
        study.store(self._name, material, self._results)
        told = material.answer
        return {
            "ended": f"{told.trials_done} of {told.trials}",
            "seconds": time.monotonic() - self._began,
            "sentence": told.sentence,
        }


def _within(document: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The spec, ended by the product itself after so many seconds."""
    return document | {"stop": {"minutes": max(seconds, 1.0) / 60}}


def _tiny(settings: Settings, document: dict[str, Any]) -> dict[str, Any]:
    """The spec with tiny networks, an epoch and two seeds."""
    return document | {
        "data": settings.data(),
        "model": settings.model("conv_small", 64),
        "training": {"epochs": 1, "warmup_epochs": 0, "batch_size": 64, "optimizer": "adamw", "lr": 1e-3},
        "evaluation": {"every_epochs": 1},
        "resources": {"gpus_per_worker": 0.25 if settings.cuda else 0, "max_concurrent_trials": 2},
        "search": document["search"] | {"seeds": 2},
    }
