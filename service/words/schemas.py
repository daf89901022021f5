"""What the API says of states, actions and metrics."""

from pydantic import ConfigDict

from service.experiments.lifecycle import OfferName
from service.experiments.states import Tone
from service.schema import Schema


class MetricWords(Schema):
    """A metric that has a meaning of its own. Others may be reported too: their name is their title."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    title: str
    description: str
    unit: str
    """Empty for a number without one."""
    decimals: int | None
    """Digits after the point; null: four significant digits."""
    limits: tuple[float, float] | None
    """Smallest and largest possible value, where a chart should show the whole range."""
    higher_is_better: bool | None
    """null: neither a higher nor a lower value is a better one."""
    comparable: bool
    """Whether values of trials that differ in the objective can be compared."""
    summary: bool
    """Whether tables of trials show it."""
    chart: bool
    """Whether an experiment's page shows its curves and its column at first."""


class StateWords(Schema):
    """A state of experiments or trials."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    meaning: str
    tone: Tone
    """How it looks: not begun, at rest, at work, ended well, ended badly, on its way to a stop."""
    ended: bool
    """Nothing more happens in it by itself."""


class ActionWords(Schema):
    """Something that can be done to an experiment. Each experiment says in `actions` what can be done to it now."""

    model_config = ConfigDict(from_attributes=True)

    name: OfferName
    title: str
    asks: str | None
    """What to ask before it is done, with `{name}` for the experiment's; null: ask nothing."""
    owner_only: bool
    """Whether it takes the owner or an admin; else anyone who may submit."""
    takes_numbers: bool
    """Whether it has to be told how many seeds or configurations; such an action is for sweeps."""


class Words(Schema):
    """All of them, each list in the order in which people look at it."""

    metrics: list[MetricWords]
    experiment_states: list[StateWords]
    trial_states: list[StateWords]
    actions: list[ActionWords]
