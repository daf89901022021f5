"""The states of experiments and attempts. The life cycle is drawn in docs/architecture.md."""

from typing import Literal

ExperimentState = Literal[
    "importing", "queued", "starting", "running", "cancelling", "succeeded", "failed", "cancelled"
]
DesiredState = Literal["run", "cancel"]
AttemptState = Literal["starting", "running", "succeeded", "failed", "interrupted", "lost"]

EXPERIMENT_ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
"""Nothing more happens to such an experiment."""

EXPERIMENT_IN_FLIGHT: frozenset[str] = frozenset({"starting", "running", "cancelling"})
"""Such an experiment has an attempt on the cluster and takes a slot."""
