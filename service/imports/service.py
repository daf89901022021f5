"""Takes in a run that was made without the service: an experiment that no dispatcher touches, and a token to fill it.

Owns how such an experiment begins. Its points, trial states and outcome arrive as any worker's reports do, and end it.
"""

from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from service.attempts import repository as attempts
from service.attempts.service import end_attempt, open_attempt
from service.database.tables import Experiment
from service.errors import ConflictError, TooManyError
from service.experiments import repository as experiment_rows
from service.experiments import service as experiments
from service.experiments.lifecycle import IllegalTransition
from service.experiments.states import EXPERIMENT_ENDED
from service.secret import hash_token

MAX_UNDER_WAY = 8
"""Imports of one owner that have begun and not ended."""


@dataclass(frozen=True)
class Opened:
    """An experiment for a run's results."""

    experiment: Experiment
    attempt_id: int | None
    """Whom to report as; None: the results are here already."""
    token: str | None


async def check_room(session: AsyncSession, run_id: str, owner: str) -> None:
    """Whether a run may be imported now: asked before its spec is checked and its trials are stored.

    Raises TooManyError as `open_import`, which asks again.
    """
    if await experiment_rows.with_key(session, owner, _key(run_id)) is None:
        await _check_room(session, owner)


async def _check_room(session: AsyncSession, owner: str) -> None:
    if await experiment_rows.count(session, owner, "importing") >= MAX_UNDER_WAY:
        detail = f"{owner} has {MAX_UNDER_WAY} imports under way, which is the limit; finish them, or cancel some."
        raise TooManyError(detail, retry_after_s=10, title="Too many imports")


def _key(run_id: str) -> str:
    """With a blank, which no Idempotency-Key of a request can have."""
    return f"import {run_id}"


async def open_import(session: AsyncSession, submission: experiments.Submission, *, run_id: str, owner: str) -> Opened:
    """The experiment of a run, made at its first import.

    An interrupted import resumes with a new token, which voids the previous one.

    Raises:
        ConflictError: the run was imported with another spec, or its experiment cannot take it now.
        TooManyError: the owner has too many imports under way.
    """
    experiment = await experiments.submit_once(session, experiments.new_experiment(submission, owner), key=_key(run_id))
    # It may be an earlier import's, and its user or worker at work on it: what counts is what it is under the lock.
    await session.refresh(experiment, with_for_update=True)
    if experiment.state in EXPERIMENT_ENDED or experiment.desired_state != "run":
        return Opened(experiment, None, None)
    # In the transaction that queued it: a dispatcher never sees it queued.
    if experiment.state != "importing":
        await _check_room(session, owner)
        try:
            await experiments.change_state(session, experiment, "importing", reason="imported", by=owner)
        except IllegalTransition as error:
            raise ConflictError(f"Cannot import into experiment {experiment.id}: {error}.") from None
        experiment.due_at = None
    earlier = await attempts.current(session, experiment.id)
    if earlier is not None and earlier.ended_at is None:
        end_attempt(earlier, "interrupted", "the import was started again")
    experiment.attempt += 1
    attempt, token = await open_attempt(session, experiment, f"import-{experiment.id}")
    attempt.code_hash, attempt.token_hash = None, hash_token(token)  # whoever imports is known already
    attempt.closed_at = func.now()  # there is no Ray job to close
    await session.flush()
    return Opened(experiment, attempt.id, token)
