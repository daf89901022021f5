"""What the API says of trials."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from adadim_core.spec.report import JsonFloat, TrialState
from service.schema import Schema


def _only(field: Literal["value", "step"]) -> BeforeValidator:
    """The table keeps {metric: {step, time, value}}; the API shows {metric: value}, and {metric: step} beside it."""
    return BeforeValidator(
        lambda latest: {name: entry[field] if isinstance(entry, dict) else entry for name, entry in latest.items()}
    )


class TrialRead(Schema):
    """One trial."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    experiment_id: int
    number: int
    """Position in the plan, from 0."""
    label: str = ""
    """It in words, as "adaptive, seed 3": what tells it from its siblings."""
    params: dict[str, Any]
    """Dotted spec path to value; empty for a single run, and while TPE has yet to choose."""
    state: TrialState
    epoch: int
    """Epochs completed."""
    epochs: int
    """Epochs it will run; 0 until it starts."""
    error: str | None
    reason: str | None
    """Why it is in this state, where that is not plain: what stopped it early, and when."""
    started_at: datetime | None
    ended_at: datetime | None
    latest: Annotated[dict[str, JsonFloat], _only("value")]
    """The value of every metric at its highest step."""
    latest_steps: Annotated[
        dict[str, int],
        _only("step"),
        Field(validation_alias=AliasChoices("latest_steps", "latest")),
    ]
    """That step: points of lower steps, which a stream may still bring, are older."""


class TrialDetail(TrialRead):
    """One trial with everything it trains with."""

    spec: dict[str, Any]
    """The experiment's spec with the trial's values in place: its whole configuration."""


class TrialPage(Schema):
    """A page of trials in the order of the plan."""

    items: list[TrialRead]
    next_cursor: str | None
