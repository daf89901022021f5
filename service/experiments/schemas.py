"""What the API says of experiments."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from adadim_core.spec.report import JsonFloat
from service.experiments.states import DesiredState, ExperimentState


class ExperimentRead(BaseModel):
    """One experiment as lists and events show it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    owner: str
    state: ExperimentState
    state_reason: str | None
    """Why it is in this state, where that is not plain."""
    desired_state: DesiredState
    trial_count: int
    trials_done: int
    attempt: int
    """Number of the current attempt; 0 before the first."""
    metric: str
    """The metric that ranks the trials."""
    mode: str
    best_trial: int | None
    best_value: JsonFloat | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ExperimentDetail(ExperimentRead):
    """One experiment with its spec."""

    spec: dict[str, Any]
    """The spec with every default filled in."""
    spec_text: str
    """The spec as it was submitted."""


class ExperimentPage(BaseModel):
    """A page of experiments, newest first."""

    items: list[ExperimentRead]
    next_cursor: str | None
    """Send it as `cursor` for the next page; null on the last."""


class TrialPlanRead(BaseModel):
    """One trial a spec would run."""

    number: int
    params: dict[str, Any]


class PlanRead(BaseModel):
    """What a spec would do: the answer to a dry run."""

    spec: dict[str, Any]
    trials: list[TrialPlanRead]
