"""The life cycle: which state may follow which and on what condition, and what each action of a user does.

Pure tables. Owns the rules; who applies them is experiments/service.py (one transition) and actions/service.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from service.experiments.states import DesiredState


@dataclass(frozen=True)
class Facts:
    """What guards look at, at the moment of the transition."""

    desired: str
    """What the user wants: run, pause, cancel or delete."""
    attempt_open: bool
    """An attempt may still report."""


Guard = Callable[[Facts], bool]


def _wants(*desired: DesiredState) -> Guard:
    return lambda facts: facts.desired in desired


def _over(*desired: DesiredState) -> Guard:
    """Wanted, and no attempt may report any more."""
    return lambda facts: facts.desired in desired and not facts.attempt_open


def _reported(facts: Facts) -> bool:
    """The worker said how its attempt ended, which counts whatever was wanted meanwhile, but for deletion."""
    return not facts.attempt_open and facts.desired != "delete"


TRANSITIONS: Mapping[tuple[str | None, str], Guard] = {
    # submitted; a dispatcher opens an attempt; its worker reports for the first time
    (None, "queued"): _wants("run"),
    ("queued", "starting"): _over("run"),
    ("starting", "running"): _wants("run"),
    # results of a run made without the service; it ends with the outcome that is reported, and no cluster is asked
    ("queued", "importing"): _over("run"),
    ("importing", "succeeded"): _reported,
    ("importing", "failed"): _reported,
    ("importing", "cancelling"): _wants("cancel"),
    ("importing", "deleting"): _wants("delete"),
    # interrupted or lost: the next attempt resumes from the checkpoints
    ("starting", "queued"): _over("run"),
    ("running", "queued"): _over("run"),
    # the worker's outcome, or too many attempts lost
    ("starting", "succeeded"): _reported,
    ("starting", "failed"): _reported,
    ("running", "succeeded"): _reported,
    ("running", "failed"): _reported,
    ("pausing", "succeeded"): _reported,
    ("pausing", "failed"): _reported,
    ("cancelling", "succeeded"): _reported,
    ("cancelling", "failed"): _reported,
    # pause and resume
    ("queued", "paused"): _over("pause"),
    ("starting", "pausing"): _wants("pause"),
    ("running", "pausing"): _wants("pause"),
    ("pausing", "paused"): _over("pause"),
    ("pausing", "running"): _wants("run"),
    ("paused", "queued"): _over("run"),
    # cancel, retry and extend
    ("queued", "cancelling"): _wants("cancel"),
    ("starting", "cancelling"): _wants("cancel"),
    ("running", "cancelling"): _wants("cancel"),
    ("pausing", "cancelling"): _wants("cancel"),
    ("paused", "cancelling"): _wants("cancel"),
    ("cancelling", "cancelled"): _over("cancel"),
    ("succeeded", "queued"): _over("run"),
    ("failed", "queued"): _over("run"),
    ("cancelled", "queued"): _over("run"),
    # delete: the row goes when job and artefacts are gone
    ("queued", "deleting"): _wants("delete"),
    ("starting", "deleting"): _wants("delete"),
    ("running", "deleting"): _wants("delete"),
    ("pausing", "deleting"): _wants("delete"),
    ("paused", "deleting"): _wants("delete"),
    ("cancelling", "deleting"): _wants("delete"),
    ("succeeded", "deleting"): _wants("delete"),
    ("failed", "deleting"): _wants("delete"),
    ("cancelled", "deleting"): _wants("delete"),
}
"""Every transition there is. Anything else is a bug of the caller and changes nothing."""


class IllegalTransition(Exception):  # noqa: N818 - names what was tried
    """A transition that is not in the table, or whose guard says no."""


def check_transition(source: str | None, target: str, facts: Facts) -> None:
    """Raise IllegalTransition unless the table allows it."""
    guard = TRANSITIONS.get((source, target))
    if guard is None:
        raise IllegalTransition(f"{source} -> {target} is no transition of an experiment")
    if not guard(facts):
        raise IllegalTransition(f"{source} -> {target} is not allowed while {facts}")


ActionName = Literal["cancel", "pause", "resume", "retry", "extend", "delete"]


@dataclass(frozen=True)
class Action:
    """What a user may ask of an experiment that exists."""

    desired: DesiredState
    done: str
    """What to call it afterwards, as in "paused by ada"."""
    moves: Mapping[str, str]
    """State to the state it is brought to at once; the dispatcher does the rest."""
    already: frozenset[str]
    """States in which there is nothing to do: asking again is harmless."""
    advice: Mapping[str, str]
    """For the other states: what to do instead."""


_UNDER_WAY: dict[str, str] = {
    "importing": "its results are being imported; wait until they are here",
    "cancelling": "it is being cancelled; wait until it is cancelled, then retry",
    "deleting": "it is being deleted",
}
_ENDED = {
    "succeeded": "it has succeeded; extend it with more seeds, or clone it to run it again",
    "failed": "it has failed; retry resumes from its checkpoints",
    "cancelled": "it was cancelled; retry resumes from its checkpoints",
}

ACTIONS: Mapping[ActionName, Action] = {
    "cancel": Action(
        "cancel",
        "cancelled",
        moves=dict.fromkeys(("importing", "queued", "starting", "running", "pausing", "paused"), "cancelling"),
        already=frozenset({"cancelling", "succeeded", "failed", "cancelled"}),
        advice={"deleting": "it is being deleted"},
    ),
    "pause": Action(
        "pause",
        "paused",
        moves={"queued": "paused", "starting": "pausing", "running": "pausing"},
        already=frozenset({"pausing", "paused"}),
        advice=_UNDER_WAY | _ENDED,
    ),
    "resume": Action(
        "run",
        "resumed",
        # Resumed before it has stopped: whatever comes of its attempt, the next one follows.
        moves={"paused": "queued", "pausing": "running"},
        already=frozenset({"queued", "starting", "running"}),
        advice=_UNDER_WAY | _ENDED,
    ),
    "retry": Action(
        "run",
        "retried",
        moves={"failed": "queued", "cancelled": "queued"},
        already=frozenset({"queued", "starting", "running"}),
        advice=_UNDER_WAY
        | {
            "succeeded": "it has succeeded; extend it with more seeds, or clone it to run it again",
            "pausing": "it is paused; resume it",
            "paused": "it is paused; resume it",
        },
    ),
    "extend": Action(
        "run",
        "extended",
        moves={"succeeded": "queued", "failed": "queued", "cancelled": "queued"},
        already=frozenset(),  # what it has already the spec says, and not the state
        advice=_UNDER_WAY
        | dict.fromkeys(("queued", "starting", "running"), "it has not ended; extend it when it has")
        | {
            "cancelling": "it is being cancelled; wait until it is cancelled, then extend it",
            "pausing": "it is paused; resume it, and extend it when it has ended",
            "paused": "it is paused; resume it, and extend it when it has ended",
        },
    ),
    "delete": Action(
        "delete",
        "deleted",
        moves=dict.fromkeys(
            (
                *("importing", "queued", "starting", "running", "pausing", "paused", "cancelling"),
                *("succeeded", "failed", "cancelled"),
            ),
            "deleting",
        ),
        already=frozenset({"deleting"}),
        advice={},
    ),
}
"""Every action, complete: each state is in exactly one of moves, already and advice."""

OfferName = Literal["pause", "resume", "retry", "extend", "clone", "cancel", "delete"]


@dataclass(frozen=True)
class Offer:
    """What a button of an action says."""

    title: str
    asks: str | None = None
    """What to ask before it is done, with `{name}` for the experiment's; None: it can be undone."""
    owner_only: bool = True
    """Whether it takes the owner or an admin; else anyone who may submit."""
    takes_numbers: bool = False
    """Whether it has to be told how many; such an action is for sweeps."""


OFFERS: Mapping[OfferName, Offer] = {
    "pause": Offer("Pause"),
    "resume": Offer("Resume"),
    "retry": Offer("Retry"),
    "extend": Offer("Extend", takes_numbers=True),
    "clone": Offer("Clone", owner_only=False),
    "cancel": Offer("Cancel", "Cancel “{name}”? Its running trials stop; what they have reported stays."),
    "delete": Offer(
        "Delete", "Delete “{name}” for good? Its points, logs, checkpoints, encoders and results go with it."
    ),
}
"""In the order in which people are offered them."""


def offered(state: str) -> list[OfferName]:
    """What can be done to an experiment in this state and would change something."""
    return [name for name in OFFERS if (state != "deleting" if name == "clone" else state in ACTIONS[name].moves)]
