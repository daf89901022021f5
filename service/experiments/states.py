"""The states of experiments and attempts. How one follows another is in lifecycle.py."""

from typing import Literal

ExperimentState = Literal[
    "importing",
    "queued",
    "starting",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
    "deleting",
]
DesiredState = Literal["run", "pause", "cancel", "delete"]
AttemptState = Literal["starting", "running", "succeeded", "failed", "interrupted", "lost"]

EXPERIMENT_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
"""Nothing more happens to such an experiment by itself."""

EXPERIMENT_DISPATCHED: frozenset[str] = frozenset({"starting", "running", "pausing", "cancelling", "deleting"})
"""The dispatcher manages experiments in these states; most have an attempt on the cluster."""
