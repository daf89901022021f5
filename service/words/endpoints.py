"""HTTP: the words."""

from collections.abc import Iterable

from fastapi import APIRouter

from adadim_core.spec.metrics import METRICS
from service.auth.dependencies import Viewer
from service.experiments.lifecycle import OFFERS
from service.experiments.states import EXPERIMENT_STATES, TRIAL_STATES, State
from service.problems import PROBLEM_RESPONSES
from service.words.schemas import ActionWords, MetricWords, StateWords, Words

router = APIRouter(prefix="/api/v1", tags=["words"], responses=PROBLEM_RESPONSES)


@router.get("/words")
async def read_words(_: Viewer) -> Words:
    """Titles, units and formats of metrics, what states mean, and actions with what to ask before them."""
    return _WORDS


def _states(states: Iterable[tuple[str, State]]) -> list[StateWords]:
    return [StateWords(name=name, **vars(state)) for name, state in states]


_WORDS = Words(
    metrics=[MetricWords.model_validate(metric) for metric in METRICS.values()],
    experiment_states=_states(EXPERIMENT_STATES.items()),
    trial_states=_states(TRIAL_STATES.items()),
    actions=[ActionWords(name=name, **vars(offer)) for name, offer in OFFERS.items()],
)
