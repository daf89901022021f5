"""One step of the dispatcher for one experiment: load, act on the cluster outside any transaction, apply.

Ray's word on a job is a hint; the worker's reports, fenced by the attempt's token, are the truth. So an attempt
counts as lost only when Ray says its job is over (or nothing at all) and the worker has fallen silent.
"""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.attempts import repository as attempts
from service.attempts.service import end_experiment
from service.auth.service import hash_token, new_token
from service.cluster.jobs import ClusterUnavailable, Job
from service.context import Context
from service.database.tables import Attempt, Experiment
from service.dispatch import repository
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_IN_FLIGHT
from service.logs import driver as logs
from service.trials import repository as trials

logger = logging.getLogger(__name__)

ENTRYPOINT = "python -m workers env:ADADIM_SPEC"

CHECK_INTERVAL = timedelta(seconds=3)
"""Time between two looks at an attempt that runs."""
SILENCE_AFTER_JOB = timedelta(seconds=8)
"""A worker whose Ray job is over reports within this, or never will."""
SILENCE = timedelta(seconds=90)
"""A worker that says nothing for so long has its job stopped, whatever Ray says of it."""
_CANCEL_INTERVAL = timedelta(seconds=1)
_SUBMIT_GRACE = timedelta(seconds=60)
"""Time to hand a job to Ray, and for a dead dispatcher's submission to show up."""
_MAX_BACKOFF = timedelta(seconds=60)


class LeaseLost(Exception):  # noqa: N818 - nothing is wrong: another replica has the work
    """The experiment is another replica's now; nothing may be applied."""


async def start_attempt(session: AsyncSession, experiment: Experiment) -> tuple[Attempt, str]:
    """Open the next attempt of a leased, queued experiment. Returns it and its token, which only its job gets."""
    token = new_token()
    number = experiment.attempt + 1
    key = await experiments.installation_key(session)
    attempt = await attempts.add(
        session,
        experiment_id=experiment.id,
        number=number,
        submission_id=f"adadim-{key}-{experiment.id}-{number}",
        token_hash=hash_token(token),
    )
    experiment.attempt = number
    await change_state(session, experiment, "starting", by="dispatcher")
    return attempt, token


async def submit(context: Context, experiment: Experiment, attempt: Attempt, token: str, url: str) -> None:
    """Hand an attempt to Ray as one job. Raises ClusterUnavailable; trying again is safe."""
    if await context.jobs.find(attempt.submission_id) is not None:
        return  # an earlier try got through although its answer was lost
    storage = f"{context.settings.storage_root.rstrip('/')}/{attempt.submission_id.rpartition('-')[0]}"
    await context.jobs.submit(
        attempt.submission_id,
        ENTRYPOINT,
        {
            "ADADIM_SPEC": json.dumps(experiment.spec),
            "ADADIM_SERVICE_URL": url,
            "ADADIM_ATTEMPT_ID": str(attempt.id),
            "ADADIM_ATTEMPT_TOKEN": token,
            "ADADIM_STORAGE": storage,
            # Time to report an interruption when the job is told to stop; Ray's default is 3 s.
            "RAY_JOB_STOP_WAIT_TIME_S": "20",
        },
    )


async def check(context: Context, experiment_id: int, lease: UUID) -> None:
    """Look at an experiment in flight and take it one step further. Raises LeaseLost."""
    async with context.database.transaction() as session:
        experiment = await _leased(session, experiment_id, lease)
        attempt = await attempts.current(session, experiment_id)
        now = (await session.scalars(select(func.now()))).one()
    view = await _look(context, attempt, now, cancelling=experiment.desired_state == "cancel")
    async with context.database.transaction() as session:
        experiment = await _leased(session, experiment_id, lease)
        attempt = await attempts.current(session, experiment_id)
        if experiment.state not in EXPERIMENT_IN_FLIGHT:
            return  # the worker reported its outcome meanwhile
        if experiment.desired_state == "cancel":
            await _apply_cancel(session, experiment, attempt, view)
        else:
            await _apply_run(session, experiment, attempt, view)


@dataclass(frozen=True)
class _View:
    """What is known of an attempt from outside the database."""

    reachable: bool
    """Ray answered."""
    job: Job | None
    """What Ray says of the job; None if it does not know it, or did not answer."""
    silence: timedelta
    """Time since the worker was last heard of, or could have been."""

    @property
    def job_gone(self) -> bool:
        """The cluster has nothing left of the attempt."""
        return self.reachable and (self.job is None or self.job.ended)


async def _look(context: Context, attempt: Attempt | None, now: datetime, *, cancelling: bool) -> _View:
    """Ask Ray about an open attempt, and have it stop a job that is not wanted or has fallen silent.

    Only a job that is gone lets the next attempt start: two must never run at once.
    """
    if attempt is None:
        return _View(reachable=True, job=None, silence=timedelta(0))
    heard = attempt.heartbeat_at or attempt.submitted_at or attempt.created_at
    # The database's clock wrote `heard` and is asked again: this machine's own may be minutes off.
    silence = min(now - heard, datetime.now(UTC) - context.started_at)
    try:
        job = await context.jobs.find(attempt.submission_id)
        # PENDING jobs wait for room on the cluster. An attempt that is over is closed by `close_attempt`.
        silent = silence > SILENCE and attempt.ended_at is None and job is not None and job.status != "PENDING"
        if job is not None and not job.ended and (cancelling or silent):
            await context.jobs.stop(attempt.submission_id)
    except ClusterUnavailable as error:
        logger.warning("experiment %d: %s", attempt.experiment_id, error)
        return _View(reachable=False, job=None, silence=silence)
    return _View(reachable=True, job=job, silence=silence)


async def _leased(session: AsyncSession, experiment_id: int, lease: UUID) -> Experiment:
    experiment = await experiments.get(session, experiment_id, lock=True)
    if experiment is None or experiment.lock_token != lease:
        raise LeaseLost
    return experiment


async def _apply_cancel(session: AsyncSession, experiment: Experiment, attempt: Attempt | None, view: _View) -> None:
    if attempt is not None and attempt.ended_at is None:
        # A cluster that stays away does not keep a user waiting: its job is stopped when it is back.
        if not view.job_gone and (view.reachable or view.silence < SILENCE):
            experiment.due_at = _from_now(_CANCEL_INTERVAL)
            return
        _end(attempt, "interrupted", experiment.state_reason)
    await end_experiment(session, experiment, "cancelled", reason=experiment.state_reason, by="dispatcher")


async def _apply_run(session: AsyncSession, experiment: Experiment, attempt: Attempt | None, view: _View) -> None:
    if attempt is None:
        await change_state(session, experiment, "queued", by="dispatcher")
        return
    if attempt.ended_at is not None:  # the worker said it was interrupted, and may still be on its way out
        if view.job_gone:
            await requeue(session, experiment, reason=attempt.error, by="worker")
        else:
            experiment.due_at = _from_now(_CANCEL_INTERVAL)
        return
    if view.job is not None and view.job.status == "PENDING":
        attempt.submitted_at = func.now()  # it waits for room on the cluster: no silence yet
    never_submitted = attempt.submitted_at is None and view.job is None
    if view.job_gone and never_submitted and view.silence > _SUBMIT_GRACE:
        # The dispatcher that was handing it to Ray died, and the attempt's token with it.
        _end(attempt, "interrupted", "never reached the cluster")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    elif view.job_gone and not never_submitted and view.silence > SILENCE_AFTER_JOB:
        said = f"Ray says {view.job.status}: {view.job.message}" if view.job is not None else "Ray has lost its job"
        # A run that ended well while the service was away only has to be collected: that costs no retry.
        collect = view.job is not None and view.job.status == "SUCCEEDED" and attempt.heartbeat_at is not None
        state = "interrupted" if collect else "lost"
        _end(attempt, state, f"no word for {view.silence.total_seconds():.0f} s; {said}")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    else:
        experiment.due_at = _from_now(CHECK_INTERVAL)


async def requeue(session: AsyncSession, experiment: Experiment, *, reason: str | None, by: str) -> None:
    """Queue the next attempt, or fail the experiment when too many were lost. An interruption costs no retry."""
    lost = await attempts.in_states(session, experiment.id, ["lost"])
    retries = int(experiment.spec["retries"])
    if lost > retries:
        reason = f"{lost} attempts lost, retries: {retries}; the last: {reason}"
        await end_experiment(session, experiment, "failed", reason=reason, by=by)
        return
    await trials.interrupt_running(session, experiment.id)
    await change_state(session, experiment, "queued", reason=reason, by=by)
    experiment.due_at = _from_now(min(timedelta(seconds=2**lost), _MAX_BACKOFF) if lost else timedelta(0))


async def interrupt_in_flight(context: Context) -> None:
    """The local cluster has been stopped with the service: queue again what ran on it."""
    async with context.database.transaction() as session:
        for experiment_id in await repository.in_flight(session):
            experiment = await experiments.get(session, experiment_id, lock=True)
            attempt = await attempts.current(session, experiment_id)
            if experiment is None or experiment.state not in EXPERIMENT_IN_FLIGHT:
                continue
            if attempt is not None and attempt.ended_at is None:
                _end(attempt, "interrupted", "the service was stopped")
            if experiment.desired_state == "cancel":
                await end_experiment(session, experiment, "cancelled", reason=experiment.state_reason, by="dispatcher")
            else:
                await requeue(session, experiment, reason="the service was stopped", by="dispatcher")


async def give_up_submitting(context: Context, experiment_id: int, lease: UUID, why: str) -> None:
    """Ray gave no answer for long. It may have the job all the same: `check` finds out when Ray is back."""
    async with context.database.transaction() as session:
        experiment = await _leased(session, experiment_id, lease)
        if experiment.state == "starting":
            await change_state(session, experiment, "starting", reason=why, by="dispatcher")


async def mark_submitted(context: Context, experiment_id: int, lease: UUID, attempt_id: int) -> None:
    """Ray has the job."""
    async with context.database.transaction() as session:
        experiment = await _leased(session, experiment_id, lease)
        await attempts.change(session, attempt_id, submitted_at=func.now())
        if experiment.desired_state != "cancel":  # cancelled meanwhile: it is due at once
            experiment.due_at = _from_now(CHECK_INTERVAL)


async def close_attempt(context: Context, attempt: Attempt) -> None:
    """See off the Ray job of an attempt that is over: stop it if it still runs, keep its log if it has ended."""
    job = await context.jobs.find(attempt.submission_id)
    if job is not None and not job.ended:
        await context.jobs.stop(attempt.submission_id)
        return
    await logs.keep(context, attempt)
    async with context.database.transaction() as session:
        await attempts.change(session, attempt.id, closed_at=func.now())


async def keep_logs(context: Context) -> None:
    """The local cluster is about to end: keep the logs it has."""
    async with context.database.transaction() as session:
        open_attempts = await repository.open_attempts(session)
    for attempt in open_attempts:
        try:
            await logs.keep(context, attempt)
        except ClusterUnavailable as error:
            logger.warning("the log of %s is lost: %s", attempt.submission_id, error)
            return


def _end(attempt: Attempt, state: str, error: str | None) -> None:
    attempt.state = state
    attempt.error = error
    attempt.ended_at = func.now()


def _from_now(delay: timedelta) -> ColumnElement[datetime]:
    """A time by the database's clock, which decides what is due."""
    return func.now() + delay
