"""What the API says of experiments."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, computed_field

from adadim_core.spec.report import JsonFloat, TrialState
from adadim_core.spec.search import MAX_TRIALS
from service.experiments.lifecycle import OfferName, offered
from service.experiments.states import AttemptState, DesiredState, ExperimentState
from service.queue.schemas import WaitingRead
from service.schema import Schema

MIN_PRIORITY, USUAL_PRIORITY, MAX_PRIORITY = -100, 0, 100
Priority = Annotated[
    int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Higher ones start first; above 0 takes an admin.")
]


class ExperimentRead(Schema):
    """One experiment as lists and events show it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    owner: str
    state: ExperimentState
    state_reason: str | None
    """Why it is in this state, where that is not plain."""
    waiting: WaitingRead | None = None
    """While it is queued: its place and what it waits for. Not in events."""
    desired_state: DesiredState
    priority: int
    labels: dict[str, str]
    """The spec's."""
    trial_count: int
    trials_done: int
    """Trials that will not run any more, whether they succeeded, were stopped early or failed."""
    trial_states: dict[TrialState, int] | None = None
    """How many trials are in which state. Not in events."""
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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def actions(self) -> list[OfferName]:
        """What can be done to it now; GET /api/v1/words has their words."""
        return offered(self.state)


class ExperimentDetail(ExperimentRead):
    """One experiment with its spec."""

    spec: dict[str, Any]
    """The spec with every default filled in."""
    spec_text: str
    """The spec as it was submitted."""


class ActionRead(ExperimentRead):
    """An experiment after an action."""

    changed: bool
    """False: it was so already, and nothing was done."""
    message: str
    """What was done, in a sentence."""


class CloneRequest(Schema):
    """What a clone has different."""

    model_config = ConfigDict(extra="forbid")

    changes: Annotated[dict[Annotated[str, Field(max_length=200)], Any], Field(max_length=100)] = {}
    """Dotted path of a spec field to its new value."""
    priority: Priority | None = None
    """Default: that of the experiment it is cloned from, as far as the caller may give it."""


class ExtendRequest(Schema):
    """What an extension of a sweep adds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seeds: (
        Annotated[int, Field(ge=1, le=MAX_TRIALS)]
        | Annotated[list[int], Field(min_length=1, max_length=MAX_TRIALS)]
        | None
    ) = None
    """Seeds of every configuration from now on: how many, or all of them; of a race how many at most."""
    trials: Annotated[int | None, Field(ge=1, le=MAX_TRIALS)] = None
    """Configurations from now on."""


class TransitionRead(Schema):
    """One step in an experiment's life."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    source: ExperimentState | None
    """The state before; null for the submission."""
    target: ExperimentState
    by: str
    """A user's name, or dispatcher, or worker."""
    reason: str | None
    attempt: int
    """Number of the attempt it belongs to; 0 before the first."""


class HistoryPage(Schema):
    """A page of an experiment's history, oldest first."""

    items: list[TransitionRead]
    next_cursor: str | None


class ExperimentPage(Schema):
    """A page of experiments."""

    items: list[ExperimentRead]
    next_cursor: str | None
    """Send it as `cursor` for the next page; null on the last."""


class DataRead(Schema):
    """What was read of the data sets that an experiment trains on."""

    items: list[dict[str, Any]]
    """One a data set, known once a trial has trained on it for an epoch; `lines` says it for people."""


class AttemptRead(Schema):
    """One execution of an experiment as one Ray job."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    """From 1."""
    state: AttemptState
    error: str | None
    created_at: datetime
    started_at: datetime | None
    """When its worker first reported."""
    ended_at: datetime | None


class AttemptPage(Schema):
    """A page of an experiment's attempts, in their order."""

    items: list[AttemptRead]
    next_cursor: str | None


class ExampleRead(Schema):
    """A spec to start from."""

    name: str
    """Its own."""
    about: str
    """What it does, in a sentence."""
    text: str
    """It as YAML."""


class ExamplesRead(Schema):
    """Specs to start from."""

    items: list[ExampleRead]


class EstimateRead(Schema):
    """How long a plan may take, by what the same network took before."""

    seconds: float
    """All trials; of searches that end some early: at most."""
    seconds_per_trial: float
    """The longest trial: the median time an epoch took, times its epochs."""
    at_once: float
    """Trials that ran at the same time, as the median of those experiments."""
    network: str
    """What was compared, as "conv_small, width 16, on digits"."""
    trials: int
    """How many trials that succeeded it is from."""


class TrialPlanRead(Schema):
    """One trial a spec would run."""

    number: int
    params: dict[str, Any]


class PlanRead(Schema):
    """What a spec would do: the answer to a dry run."""

    summary: str
    """How much it would run, as "12 configurations x 5 seeds = 60 trials"."""
    spec: dict[str, Any]
    trials: list[TrialPlanRead]
    estimate: EstimateRead | None
    """null where the network has never trained here, or where the plan varies it."""
