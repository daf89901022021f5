"""The states of experiments, their trials and attempts, with what they mean. How one follows another: lifecycle.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adadim_core.spec.report import TrialState

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

Tone = Literal["open", "idle", "busy", "ok", "bad", "warn"]
"""How a state looks: not begun, at rest, at work, ended well, ended badly, on its way to a stop."""


@dataclass(frozen=True)
class State:
    """What people and programs need to know of a state to show it."""

    meaning: str
    """What it means, in one line."""
    tone: Tone
    ended: bool = False
    """Nothing more happens in it by itself."""


EXPERIMENT_STATES: Mapping[ExperimentState, State] = {
    "importing": State("the results of a run made without the service are coming in", "busy"),
    "queued": State("it waits for its turn", "open"),
    "starting": State("its job is on the way to the cluster", "busy"),
    "running": State("its trials train", "busy"),
    "pausing": State("its job is asked to end; its trials keep their checkpoints", "warn"),
    "paused": State("it holds nothing of the cluster, and goes on when it is resumed", "warn"),
    "cancelling": State("its job is asked to end", "warn"),
    "succeeded": State("every trial has ended, at least one of them well", "ok", ended=True),
    "failed": State("every trial failed, or it could not be run", "bad", ended=True),
    "cancelled": State("its user ended it; what it has reported stays", "idle", ended=True),
    "deleting": State("its job ends, then all that is left of it goes", "warn"),
}
TRIAL_STATES: Mapping[TrialState, State] = {
    "running": State("it trains", "busy"),
    "pending": State("it has not begun", "open"),
    "succeeded": State("it has trained to its end", "ok", ended=True),
    "stopped": State("it was ended early: by the scheduler, or with its experiment", "idle", ended=True),
    "interrupted": State("its attempt is over, and the next one goes on from its checkpoint", "warn"),
    "failed": State("it raised an error", "bad", ended=True),
}
"""In the order in which people look at them."""

EXPERIMENT_ENDED: frozenset[str] = frozenset(name for name, state in EXPERIMENT_STATES.items() if state.ended)
"""Nothing more happens to such an experiment by itself."""
TRIAL_ENDED: frozenset[str] = frozenset(name for name, state in TRIAL_STATES.items() if state.ended)
"""Such a trial will not run any more, unless its experiment is retried."""

EXPERIMENT_DISPATCHED: frozenset[str] = frozenset({"starting", "running", "pausing", "cancelling", "deleting"})
"""The dispatcher manages experiments in these states; most have an attempt on the cluster."""
