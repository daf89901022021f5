"""One step of the dispatcher for one experiment: load, act on the cluster outside any transaction, apply.

Ray's word on a job is a hint; the worker's reports, fenced by the attempt's token, are the truth. So an attempt
counts as lost only when Ray says its job is over (or nothing at all) and the worker has fallen silent.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec.packing import packed
from adadim_core.spec.parsing import compact
from adadim_core.spec.undelivered import Undelivered
from adadim_core.storage.address import shown
from adadim_core.storage.reading import remove_run
from adadim_core.version import VERSION
from service.attempts import repository as attempts
from service.attempts.service import end_attempt, end_experiment, open_attempt
from service.cluster.jobs import ClusterUnavailable, Job
from service.context import Context
from service.database import notify
from service.database.tables import Attempt, Experiment
from service.dispatch import repository
from service.dispatch.unheard import ENTRYPOINT, cannot_run, read_undelivered, unreachable
from service.events import repository as events
from service.experiments import artefacts
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_DISPATCHED
from service.metrics.merger import delete_points
from service.trials import repository as trials

logger = logging.getLogger(__name__)

CHECK_INTERVAL = timedelta(seconds=3)
"""Time between two looks at an attempt that runs."""
SILENCE_AFTER_JOB = timedelta(seconds=8)
"""A worker whose Ray job is over reports within this, or never will."""
SILENCE = timedelta(seconds=90)
"""A worker that says nothing for so long has its job stopped, whatever Ray says of it; after twice as long its attempt
is lost. The next one waits all the same until the job is gone or given up (closing.py)."""
PENDING_TOLD = timedelta(seconds=30)
"""The driver of a job takes no room of the cluster: one that Ray has not started by then is worth a word."""
PENDING_LOST = timedelta(minutes=10)
"""Nodes may have to come, and images; what Ray has not started by then it has forgotten."""
_STOP_INTERVAL = timedelta(seconds=1)
SUBMIT_GRACE = timedelta(seconds=5)
"""Whoever looks at an attempt that was never submitted holds its lease: the dispatcher that was handing it over is
gone, and what it had sent Ray shows up within this. Later it would be stopped as a job nobody knows."""
_MAX_BACKOFF = timedelta(seconds=60)
_WORTH = timedelta(seconds=60)
"""An attempt whose worker reported for so long got somewhere; several in a row that did not are made to wait."""
_MAX_FRUITLESS = 20
"""More in a row fail the experiment: something ends it at every start, and will again."""


class LeaseLost(Exception):  # noqa: N818 - nothing is wrong: another replica has the work
    """The experiment is another replica's now; nothing may be applied."""


async def start_attempt(session: AsyncSession, experiment: Experiment) -> tuple[Attempt, str]:
    """Open the next attempt of a leased, queued experiment. Returns it and the code that its job is started with."""
    experiment.attempt += 1
    await change_state(session, experiment, "starting", by="dispatcher")
    key = await experiments.installation_key(session)
    return await open_attempt(session, experiment, artefacts.name(key, experiment.id))


async def submit(context: Context, experiment: Experiment, lease: UUID, attempt: Attempt, code: str, url: str) -> None:
    """Hand an attempt to Ray as one job.

    Raises ClusterUnavailable, and trying again is safe; JobRefused, and it is not worth it; LeaseLost.
    """
    if await context.jobs.find(attempt.submission_id) is not None:
        return  # an earlier try got through although its answer was lost
    async with context.database.transaction() as session:
        # Ray may have taken long to answer: another dispatcher may have given this attempt up meanwhile.
        if not await repository.extend_lease(session, experiment.id, lease):
            raise LeaseLost
    storage = artefacts.folder(context.settings, attempt.submission_id)
    await context.jobs.submit(
        attempt.submission_id,
        ENTRYPOINT,
        {
            "ADADIM_SPEC": packed(compact(experiment.spec)),
            "ADADIM_VERSION": VERSION,
            "ADADIM_SERVICE_URL": url,
            "ADADIM_ATTEMPT_ID": str(attempt.id),
            "ADADIM_ATTEMPT_CODE": code,  # Ray shows it to all who are on the node; it opens nothing
            "ADADIM_RUN_STORAGE": storage,
            # Time to report an interruption when the job is told to stop; Ray's default is 3 s.
            "RAY_JOB_STOP_WAIT_TIME_S": "20",
        },
    )


async def check(context: Context, experiment_id: int, lease: UUID) -> None:
    """Look at an experiment and take it one step further. Raises LeaseLost."""
    async with context.database.transaction() as session:
        experiment = await leased(session, experiment_id, lease)
        attempt = await attempts.current(session, experiment_id)
        silence = await _silence(session, context, attempt)
    view = await _look(context, attempt, silence, wanted=experiment.desired_state == "run")
    if attempt is not None and attempt.ended_at is None and view.job_gone:  # it was written before its job ended
        view = replace(view, undelivered=await read_undelivered(context, attempt))
    async with context.database.transaction() as session:
        experiment = await leased(session, experiment_id, lease)
        attempt = await attempts.current(session, experiment_id)
        if experiment.state not in EXPERIMENT_DISPATCHED:
            return  # the worker reported its outcome meanwhile
        # Ray may take long to answer: reports received meanwhile count.
        silence = await _silence(session, context, attempt)
        view = replace(view, silence=silence, cluster_end=context.jobs.end_within(silence))
        if attempt is not None and view.pending:
            view = replace(view, pending_for=await _since(session, context, attempt.created_at))
        if experiment.desired_state == "run":
            await _apply_run(session, experiment, attempt, view)
            return
        if not _stopped(experiment, attempt, view):
            experiment.due_at = _from_now(_STOP_INTERVAL)
            return
        if experiment.desired_state != "delete":
            await apply_stopped(session, experiment, by="dispatcher")
            return
        key = await experiments.installation_key(session)
    await _delete(context, experiment, lease, artefacts.name(key, experiment.id))


@dataclass(frozen=True)
class _View:
    """What is known of an attempt from outside the database."""

    reachable: bool
    """Ray answered."""
    job: Job | None
    """What Ray says of the job; None if it does not know it, or did not answer."""
    silence: timedelta
    """Time since the last report of the worker, as far as reports could be received."""
    undelivered: Undelivered | None = None
    """What the worker of a job that is gone left in the storage."""
    pending_for: timedelta = timedelta(0)
    """How long Ray has had the job without starting it."""
    cluster_end: str | None = None
    """Why the cluster that had the job is no more, if it ended since the worker was heard last and that is known."""

    @property
    def words_of_loss(self) -> str:
        return "Ray has lost its job" + (f": {self.cluster_end}" if self.cluster_end else "")

    @property
    def pending(self) -> bool:
        """Ray has the job and has not started it."""
        return self.job is not None and self.job.status == "PENDING"

    @property
    def job_gone(self) -> bool:
        """The cluster has nothing left of the attempt."""
        return self.reachable and (self.job is None or self.job.ended)

    @property
    def over(self) -> bool:
        """Nothing more is to be expected of an attempt that is not wanted, or said it was interrupted.

        Neither a cluster that stays away keeps a user waiting nor a job that Ray calls running for ever: such a job is
        told to stop as long as it is there.
        """
        return self.job_gone or self.silence >= SILENCE


async def _silence(session: AsyncSession, context: Context, attempt: Attempt | None) -> timedelta:
    """For how long an attempt has not reported, as far as reports could be received."""
    if attempt is None:
        return timedelta(0)
    return await _since(session, context, attempt.heartbeat_at or attempt.submitted_at or attempt.created_at)


async def _since(session: AsyncSession, context: Context, moment: datetime) -> timedelta:
    """The time since a moment of the database's clock in which something could have been heard."""
    # The database's clock wrote the moment and is asked again: this machine's own may be minutes off.
    now = (await session.scalars(select(func.now()))).one()
    return min(now - moment, context.reception.unbroken_for())


async def _look(context: Context, attempt: Attempt | None, silence: timedelta, *, wanted: bool) -> _View:
    """Ask Ray about an open attempt, and have it stop a job that is not wanted or has fallen silent.

    Only a job that is gone lets the next attempt start: two must never run at once.
    """
    if attempt is None:
        return _View(reachable=True, job=None, silence=silence)
    try:
        job = await context.jobs.find(attempt.submission_id)
        # A PENDING job has no worker that could say anything. An attempt that is over is closed by `close_attempt`.
        silent = silence > SILENCE and attempt.ended_at is None and job is not None and job.status != "PENDING"
        if job is not None and not job.ended and (silent or not wanted):
            await context.jobs.stop(attempt.submission_id)
    except ClusterUnavailable as error:
        if error.answered:
            logger.warning("experiment %d: %s", attempt.experiment_id, error)
        return _View(reachable=False, job=None, silence=silence)
    return _View(reachable=True, job=job, silence=silence)


async def leased(session: AsyncSession, experiment_id: int, lease: UUID) -> Experiment:
    experiment = await experiments.get(session, experiment_id, lock=True)
    if experiment is None or experiment.lock_token != lease:
        raise LeaseLost
    return experiment


def _stopped(experiment: Experiment, attempt: Attempt | None, view: _View) -> bool:
    """Whether nothing more is to be expected of an experiment that is to stop; its attempt is over then."""
    if attempt is None:
        return True
    if not view.over:
        return False
    if attempt.ended_at is None:
        end_attempt(attempt, "interrupted", experiment.state_reason)
    return True


async def apply_stopped(session: AsyncSession, experiment: Experiment, *, by: str) -> None:
    """Bring an experiment whose attempt is over to the rest its user wants."""
    if experiment.desired_state == "pause":
        await trials.interrupt_running(session, experiment.id)
        await change_state(session, experiment, "paused", reason=experiment.state_reason, by=by)
        experiment.due_at = None
        await notify.notify(session, notify.DISPATCH)
    elif experiment.desired_state == "cancel":
        await end_experiment(session, experiment, "cancelled", reason=experiment.state_reason, by=by)


async def _delete(context: Context, experiment: Experiment, lease: UUID, folder_name: str) -> None:
    """Remove the artefacts, then the row: a dispatcher that dies in between leaves the row for the next one."""
    location = artefacts.folder(context.settings, folder_name)
    folder = shown(location)
    try:
        await asyncio.to_thread(remove_run, location)
    except OSError as error:
        logger.warning("experiment %d: cannot remove %s: %s", experiment.id, folder, error)
        async with context.database.transaction() as session:
            row = await leased(session, experiment.id, lease)
            row.state_reason = f"cannot remove {folder}: {error.strerror or error}; trying again"
            row.due_at = _from_now(_MAX_BACKOFF)
        return
    await delete_points(context.database, experiment.id)  # in small steps: what is left is quick to delete at once
    async with context.database.transaction() as session:
        await leased(session, experiment.id, lease)
        await experiments.remove(session, experiment.id, by="dispatcher")
        await notify.notify(session, notify.EVENTS, str(experiment.id))
    logger.info("experiment %d is deleted, with %s", experiment.id, folder)


async def _apply_run(session: AsyncSession, experiment: Experiment, attempt: Attempt | None, view: _View) -> None:
    if attempt is None:
        await change_state(session, experiment, "queued", by="dispatcher")
        return
    if attempt.ended_at is not None:  # the worker said it was interrupted, and may still be on its way out
        if view.over:
            await requeue(session, experiment, reason=attempt.error, by="worker")
        else:
            experiment.due_at = _from_now(_STOP_INTERVAL)
        return
    never_submitted = attempt.submitted_at is None and attempt.heartbeat_at is None and view.job is None
    pending = view.pending
    if pending or (view.job is not None and attempt.submitted_at is None):
        attempt.submitted_at = func.now()  # it has not begun, or whoever submitted it has died
    if view.job_gone and never_submitted and view.silence > SUBMIT_GRACE:
        # The dispatcher that was handing it to Ray died, and the job's code with it.
        end_attempt(attempt, "interrupted", "never reached the cluster")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    elif why := cannot_run(view.job):
        end_attempt(attempt, "failed", why)
        await end_experiment(session, experiment, "failed", reason=why, by="dispatcher")
    elif view.undelivered is not None and view.silence > SILENCE_AFTER_JOB:
        await _take_undelivered(session, experiment, attempt, view.undelivered)
    elif view.job_gone and not never_submitted and view.silence > SILENCE_AFTER_JOB:
        said = f"Ray says {view.job.status}: {view.job.message}" if view.job is not None else view.words_of_loss
        state = "lost" if view.job is None or not _costs_nothing(attempt, view.job, view.silence) else "interrupted"
        end_attempt(attempt, state, f"no word for {view.silence.total_seconds():.0f} s; {said}")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    elif view.pending_for > PENDING_LOST:
        end_attempt(attempt, "lost", f"Ray did not start its job within {view.pending_for.total_seconds():.0f} s")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    elif view.reachable and not view.job_gone and not pending and view.silence > 2 * SILENCE:
        logger.warning("experiment %d: stop had no effect on %s", experiment.id, attempt.submission_id)
        end_attempt(attempt, "lost", f"no word for {view.silence.total_seconds():.0f} s; stop had no effect on its job")
        await requeue(session, experiment, reason=attempt.error, by="dispatcher")
    else:
        experiment.due_at = _from_now(CHECK_INTERVAL)
        if view.pending_for > PENDING_TOLD and view.job is not None:
            await _tell(
                session, experiment, f"Ray has not started its job yet: {view.job.message or 'no reason given'}"
            )


async def _tell(session: AsyncSession, experiment: Experiment, why: str | None) -> None:
    """Say what an experiment waits for; None: nothing that is not plain any more."""
    if experiment.state_reason != why:
        experiment.state_reason = why
        await session.flush()
        await events.append(session, experiment.id, "experiment", {"state": experiment.state})


async def _take_undelivered(
    session: AsyncSession, experiment: Experiment, attempt: Attempt, found: Undelivered
) -> None:
    """Do what the worker's own report of its outcome would have done, which did not arrive."""
    if attempt.heartbeat_at is None:  # and none would of another attempt
        why = unreachable(found, experiment.id)
        end_attempt(attempt, "failed", why)
        await end_experiment(session, experiment, "failed", reason=why, by="dispatcher")
    elif found.outcome.state == "failed":
        end_attempt(attempt, "failed", found.outcome.error)
        await end_experiment(session, experiment, "failed", reason=found.outcome.error, by="worker")
    else:
        # A run that has succeeded is not trained again: the next attempt delivers the points that did not arrive.
        end_attempt(attempt, "interrupted", f"{found.outcome.state}, which could not be reported: {found.why}")
        await requeue(session, experiment, reason=attempt.error, by="worker")


def _costs_nothing(attempt: Attempt, job: Job, silence: timedelta) -> bool:
    """Whether an attempt whose job is over without a word of its worker was not lost but has to be taken up again."""
    if job.status == "STOPPED":  # before it could report, by somebody: paused and resumed, or through Ray
        return silence <= SILENCE
    # A run that ended well while the service was away only has to be collected.
    return job.status == "SUCCEEDED" and attempt.heartbeat_at is not None


async def requeue(
    session: AsyncSession, experiment: Experiment, *, reason: str | None, by: str, own: bool = False
) -> None:
    """Queue the next attempt, or fail the experiment when too many were lost or got nowhere.

    An interruption costs no retry; but what is interrupted again and again before it gets anywhere waits longer every
    time, so that it does not keep others from their turns.

    Args:
        own: the service itself ended the attempt: that is no sign of trouble.
    """
    lost = await attempts.lost_since(session, experiment.id, experiment.forgiven)
    fruitless = 0 if own else await attempts.fruitless_since(session, experiment.id, experiment.forgiven, _WORTH)
    retries = int(experiment.spec["retries"])
    if lost > retries or fruitless > _MAX_FRUITLESS:
        what = f"{lost} attempts lost, retries: {retries}" if lost > retries else f"{fruitless} attempts got nowhere"
        await end_experiment(session, experiment, "failed", reason=f"{what}; the last: {reason}", by=by)
        return
    await trials.interrupt_running(session, experiment.id)
    await change_state(session, experiment, "queued", reason=reason, by=by)
    doublings = min(max(lost, fruitless - 1), 10)
    delay = min(timedelta(seconds=2**doublings), _MAX_BACKOFF) if doublings else timedelta(0)
    experiment.due_at = _from_now(timedelta(0) if own else delay)
    await notify.notify(session, notify.DISPATCH)


async def tell_of_submission(context: Context, experiment_id: int, lease: UUID, why: str) -> None:
    """Ray did not take the job yet. It may have it all the same: `check` finds out when Ray is back."""
    async with context.database.transaction() as session:
        experiment = await leased(session, experiment_id, lease)
        if experiment.state == "starting":
            await _tell(session, experiment, why)


async def apply_refused(context: Context, experiment_id: int, lease: UUID, attempt_id: int, why: str) -> None:
    """Ray will never take this job: no other attempt would change that."""
    async with context.database.transaction() as session:
        experiment = await leased(session, experiment_id, lease)
        attempt = await attempts.get(session, attempt_id)
        if attempt is None or attempt.ended_at is not None:
            return
        end_attempt(attempt, "failed", why)
        if experiment.desired_state == "run":
            await end_experiment(session, experiment, "failed", reason=why, by="dispatcher")


async def mark_submitted(context: Context, experiment_id: int, lease: UUID, attempt_id: int) -> None:
    """Ray has the job."""
    async with context.database.transaction() as session:
        experiment = await leased(session, experiment_id, lease)
        await attempts.change(session, attempt_id, submitted_at=func.now())
        if experiment.desired_state == "run":  # else it is due at once
            experiment.due_at = _from_now(CHECK_INTERVAL)
            if experiment.state == "starting":
                await _tell(session, experiment, None)


def _from_now(delay: timedelta) -> ColumnElement[datetime]:
    """A time by the database's clock, which decides what is due."""
    return func.now() + delay
