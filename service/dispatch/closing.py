"""What remains of attempts on the cluster once they are over: jobs to stop, logs to keep.

Owns the other direction of reconciliation: jobs that run though the database thinks they ended, or never knew them.
"""

import logging

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


async def close_attempt(context: Context, attempt: Attempt) -> None:
    """See off the Ray job of an attempt that is over: stop it if it still runs, keep its log if it has ended."""
    job = await context.jobs.find(attempt.submission_id)
    if job is not None and not job.ended:
        await context.jobs.stop(attempt.submission_id)
        return
    await logs.keep(context, attempt)
    async with context.database.transaction() as session:
        await attempts.change(session, attempt.id, closed_at=func.now())
        await notify.notify(session, notify.DISPATCH)  # the next attempt may wait for this


async def stop_unknown_jobs(context: Context) -> None:
    """Stop this installation's jobs that no open attempt has. Raises ClusterUnavailable.

    An attempt is stored before its job is submitted, so a job without one was left by a deleted experiment or a
    database set back, or came late from a dispatcher that died.
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
            logger.warning("Ray job %s runs for no open attempt: stopping it", submission_id)
            await context.jobs.stop(submission_id)


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
                await requeue(session, experiment, reason="the service was stopped", by="dispatcher")
            else:
                await apply_stopped(session, experiment, by="dispatcher")
