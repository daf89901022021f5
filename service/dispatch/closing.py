"""What remains of attempts on the cluster once they are over: jobs to stop, logs to keep.

Owns the other direction of reconciliation: jobs that run though the database thinks they ended, or never knew them.
"""

import logging
from datetime import timedelta

from sqlalchemy import func

from service.attempts import repository as attempts
from service.attempts.service import end_attempt
from service.cluster.jobs import ClusterUnavailable
from service.context import Context
from service.database import notify
from service.database.tables import Attempt
from service.dispatch import repository
from service.dispatch.service import apply_stopped, requeue
from service.experiments import artefacts
from service.experiments import repository as experiments
from service.experiments.states import EXPERIMENT_DISPATCHED
from service.logs import driver as logs

logger = logging.getLogger(__name__)

GIVE_UP = timedelta(minutes=10)
"""A job that Ray calls running this long after its attempt's end, while its worker is silent, is given up."""


async def close_attempt(context: Context, attempt: Attempt) -> None:
    """See off the Ray job of an attempt that is over: stop it if it still runs, keep its log if it has ended.

    Ray may call a job running for ever (ray-project/kuberay#3860), so one whose worker has long been silent counts as
    gone. Should it live after all, out of our reach, the fence protects the points: its reports are refused, and it
    ends at the first one that gets through. Until then `stop_unknown_jobs` goes on telling Ray to stop it.
    """
    job = await context.jobs.find(attempt.submission_id)
    if job is not None and not job.ended:
        await context.jobs.stop(attempt.submission_id)
        if not await _given_up(context, attempt):
            return
        logger.warning("%s: stop had no effect, and its worker is silent: it counts as gone", attempt.submission_id)
    await logs.keep(context, attempt)
    async with context.database.transaction() as session:
        await attempts.change(session, attempt.id, closed_at=func.now())
        await notify.notify(session, notify.DISPATCH)  # the next attempt may wait for this


async def _given_up(context: Context, attempt: Attempt) -> bool:
    if context.reception.unbroken_for() < GIVE_UP:
        return False
    async with context.database.transaction() as session:
        return await attempts.silent_for(session, attempt.id, GIVE_UP)


async def stop_unknown_jobs(context: Context, told: set[str]) -> None:
    """Stop this installation's jobs that no open attempt has. Raises ClusterUnavailable.

    An attempt is stored before its job is submitted, so a job without one was left by a deleted experiment or a
    database set back, or came late from a dispatcher that died, or was given up.

    Args:
        told: the jobs the log has spoken of; kept up to date.
    """
    async with context.database.transaction() as session:
        prefix = artefacts.prefix(await experiments.installation_key(session))
    running = [job.submission_id for job in await context.jobs.all() if not job.ended]
    ours = [submission_id for submission_id in running if submission_id.startswith(prefix)]
    if not ours:
        return
    async with context.database.transaction() as session:
        known = await repository.open_of(session, ours)
    for submission_id in ours:
        if submission_id not in known:
            if submission_id not in told:
                logger.warning("Ray job %s runs for no open attempt: stopping it", submission_id)
                told.add(submission_id)
            await context.jobs.stop(submission_id)
    told.intersection_update(ours)


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


async def interrupt_in_flight(context: Context) -> None:
    """The local cluster has been stopped with the service: queue again what ran on it."""
    async with context.database.transaction() as session:
        for experiment_id in await repository.dispatched(session):
            experiment = await experiments.get(session, experiment_id, lock=True)
            attempt = await attempts.current(session, experiment_id)
            if experiment is None or experiment.state not in EXPERIMENT_DISPATCHED:
                continue
            if attempt is not None and attempt.ended_at is None:
                end_attempt(attempt, "interrupted", "the service was stopped")
            if attempt is not None:
                attempt.closed_at = func.now()  # its job ended with the cluster
            if experiment.desired_state == "run":
                await requeue(session, experiment, reason="the service was stopped", by="dispatcher", own=True)
            else:
                await apply_stopped(session, experiment, by="dispatcher")
