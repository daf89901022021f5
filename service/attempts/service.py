"""How an attempt begins and ends, and whose reports it takes. What reports do is in receiving.py.

A job is started with a code, which everybody on its node can read. Reports carry a token that the job's driver made
and told nobody: `take_over` binds the first one to the attempt, if the driver proves that it is one.
"""

import hmac
from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.attempt_proof import proof
from adadim_core.spec.report import Outcome
from service.attempts import repository
from service.auth.denials import unauthorized
from service.database import notify
from service.database.tables import Attempt, Experiment
from service.errors import ConflictError, NotAllowedError, NotAuthenticatedError, ServiceError
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_ENDED
from service.secret import hash_token, new_token
from service.telemetry.counters import DENIED
from service.trials import repository as trials


async def open_attempt(session: AsyncSession, experiment: Experiment, job: str) -> tuple[Attempt, str]:
    """Store the attempt that `experiment.attempt` numbers. Returns it and the code that its job is started with.

    Args:
        job: the name of its Ray job without the attempt's number.
    """
    code = new_token()
    attempt = await repository.add(
        session,
        experiment_id=experiment.id,
        number=experiment.attempt,
        submission_id=f"{job}-{experiment.attempt}",
        code_hash=hash_token(code),
    )
    return attempt, code


def end_attempt(attempt: Attempt, state: str, error: str | None) -> None:
    """An attempt is over: from now on its reports are refused."""
    attempt.state = state
    attempt.error = error
    attempt.ended_at = func.now()


async def authenticate(session: AsyncSession, attempt_id: int, token: str | None) -> bytes:
    """Raise NotAuthenticatedError unless this is the attempt's token. Returns the token's hash."""
    attempt = await repository.get(session, attempt_id)
    if attempt is None or not _is_hashed(token, attempt.token_hash):
        raise not_its_token()
    return hash_token(token or "")


async def authenticate_job(session: AsyncSession, attempt_id: int, code: str | None) -> None:
    """Raise NotAuthenticatedError unless this is the code of the attempt's job."""
    attempt = await repository.get(session, attempt_id)
    if attempt is None or not _is_hashed(code, attempt.code_hash):
        raise not_its_token()


def _is_hashed(secret: str | None, found: bytes | None) -> bool:
    return secret is not None and found is not None and hmac.compare_digest(found, hash_token(secret))


def not_its_token() -> NotAuthenticatedError:
    """The same answer for a wrong token and a missing attempt: a caller must not learn which attempts exist."""
    return unauthorized("attempt_token", "Not the token of this attempt.")


class SupersededError(ConflictError):
    """The attempt is over or superseded; its worker should end."""

    title = "Superseded"

    def __init__(self) -> None:
        super().__init__("This attempt is over; its worker should end.")


class NotProvenError(NotAllowedError):
    """Who has the code of a job does not show that it is that job."""

    title = "Not a job of the cluster"

    def __init__(self) -> None:
        super().__init__(
            "This process does not know the cluster's token, so it may be anybody who read a job's environment. The "
            "nodes need the RAY_AUTH_TOKEN that the service has, or both the same ADADIM_JOB_KEY."
        )


_TOLD = 3
"""Refusals of one attempt that are written down, in its history too: more would only cost."""


@dataclass(frozen=True)
class Claim:
    """That a process is the driver of an attempt's job, and which token its reports will carry."""

    attempt_id: int
    code: str
    """What the job was started with; `authenticate_job` has seen it."""
    sha256: str
    """Digest of the token."""
    shown: str | None
    """The proof that came with it."""


async def take_over(session: AsyncSession, claim: Claim, key: str | None) -> ServiceError | None:
    """Bind an attempt to the token of its job's driver; what to answer if that is refused.

    The first proven token counts, for as often as it is asked for. Refusals are written down too: commit them.

    Args:
        key: what is proven to be known; None: nothing tells the jobs of this cluster from who reads their codes.
    """
    attempt = await session.get_one(Attempt, claim.attempt_id)
    if (refused := _refusal(attempt, claim, key)) is not None and attempt.codes_refused >= _TOLD:
        return refused
    experiment = await experiments.get(session, attempt.experiment_id, lock=True)
    await session.refresh(attempt)
    if experiment is None or attempt.ended_at is not None:
        return SupersededError()
    if (refused := _refusal(attempt, claim, key)) is not None:
        DENIED.labels(403, "attempt_code").inc()
        attempt.codes_refused += 1
        unknown = isinstance(refused, NotProvenError)
        why = "it does not know the cluster's token" if unknown else "another process has the attempt"
        what = (
            f"a process that knows the code of attempt {attempt.number}'s job wanted to report for it: refused, {why}"
        )
        await _tell(session, experiment, by="service", what=what)
    elif attempt.token_hash is None:
        attempt.token_hash = bytes.fromhex(claim.sha256)
        how = "proven by the cluster's token" if key is not None else "unproven, as the cluster has no token"
        await _tell(session, experiment, by="worker", what=f"its job took attempt {attempt.number} over, {how}")
    return refused


def _refusal(attempt: Attempt, claim: Claim, key: str | None) -> ServiceError | None:
    if attempt.token_hash is not None:  # the same again: the answer to an earlier request was lost
        return None if hmac.compare_digest(attempt.token_hash, bytes.fromhex(claim.sha256)) else SupersededError()
    if key is None:
        return None
    right = proof(key, str(claim.attempt_id), claim.code, claim.sha256)
    return None if hmac.compare_digest(right, claim.shown or "") else NotProvenError()


async def _tell(session: AsyncSession, experiment: Experiment, *, by: str, what: str) -> None:
    """Add to the history what changes no state."""
    await session.flush()
    await experiments.add_transition(session, experiment, experiment.state, by=by, reason=what)


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
