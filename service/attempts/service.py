"""How an attempt begins and ends, and whose reports it takes. What reports do is in receiving.py."""

import hmac

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.report import Outcome
from service.attempts import repository
from service.auth.denials import unauthorized
from service.database import notify
from service.database.tables import Attempt, Experiment
from service.errors import ConflictError, NotAuthenticatedError
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_ENDED
from service.secret import hash_token, new_token
from service.trials import repository as trials


async def open_attempt(session: AsyncSession, experiment: Experiment, job: str) -> tuple[Attempt, str]:
    """Store the attempt that `experiment.attempt` numbers. Returns it and its token, which only its worker gets.

    Args:
        job: the name of its Ray job without the attempt's number.
    """
    token = new_token()
    attempt = await repository.add(
        session,
        experiment_id=experiment.id,
        number=experiment.attempt,
        submission_id=f"{job}-{experiment.attempt}",
        token_hash=hash_token(token),
    )
    return attempt, token


def end_attempt(attempt: Attempt, state: str, error: str | None) -> None:
    """An attempt is over: from now on its reports are refused."""
    attempt.state = state
    attempt.error = error
    attempt.ended_at = func.now()


async def authenticate(session: AsyncSession, attempt_id: int, token: str | None) -> bytes:
    """Raise NotAuthenticatedError unless this is the attempt's token. Returns the token's hash."""
    attempt = await repository.get(session, attempt_id)
    if attempt is None or token is None or not hmac.compare_digest(attempt.token_hash, hash_token(token)):
        raise not_its_token()
    return attempt.token_hash


def not_its_token() -> NotAuthenticatedError:
    """The same answer for a wrong token and a missing attempt: a caller must not learn which attempts exist."""
    return unauthorized("attempt_token", "Not the token of this attempt.")


class SupersededError(ConflictError):
    """The attempt is over or superseded; its worker should end."""

    title = "Superseded"

    def __init__(self) -> None:
        super().__init__("This attempt is over; its worker should end.")


async def replace_token(session: AsyncSession, attempt_id: int, token: str | None, new_hash: bytes) -> None:
    """Void the token an attempt was started with, which its cluster shows, for one its worker made.

    Raises NotAuthenticatedError unless `token` is the attempt's, SupersededError once the attempt is over.
    """
    await authenticate(session, attempt_id, token)
    if not await repository.replace_token(session, attempt_id, old=hash_token(token or ""), new=new_hash):
        raise SupersededError


async def finish(session: AsyncSession, experiment_id: int, attempt_id: int, outcome: Outcome) -> None:
    """Apply how the worker says its attempt ended, to a locked experiment."""
    experiment = await session.get_one(Experiment, experiment_id, populate_existing=True)
    attempt = await session.get_one(Attempt, attempt_id, populate_existing=True)
    end_attempt(attempt, outcome.state, outcome.error)
    if outcome.state == "interrupted" or experiment.state == "deleting":
        # Whether that was wanted (paused, cancelled) or not (the node goes away) the dispatcher decides.
        await experiments.make_due(session, experiment.id)
        await notify.notify(session, notify.DISPATCH)
    elif experiment.state not in EXPERIMENT_ENDED:
        await end_experiment(session, experiment, outcome.state, reason=outcome.error, by="worker")


async def end_experiment(
    session: AsyncSession, experiment: Experiment, state: str, *, reason: str | None, by: str
) -> None:
    """Bring a locked experiment to its end."""
    experiment.trials_done = await trials.count_ended(session, experiment.id)
    await trials.end_unfinished(session, experiment.id)  # stopped by the end, not done
    best = await trials.best(session, experiment.id, experiment.metric, experiment.mode)
    experiment.best_trial, experiment.best_value = best or (None, None)  # a trial that failed late is not the best
    experiment.ended_at = func.now()
    experiment.due_at = None
    await change_state(session, experiment, state, reason=reason, by=by)
    await notify.notify(session, notify.DISPATCH)
