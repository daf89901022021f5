"""How an attempt begins and ends, and what its worker's reports do, each in one transaction.

The fence: a report counts only from the experiment's latest attempt, while that attempt is open.
"""

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.report import Outcome, Report, ReportReply, TrialUpdate
from service.attempts import repository
from service.attempts.body import Delivery
from service.auth.denials import unauthorized
from service.database import notify
from service.database.tables import Attempt, Experiment, Trial
from service.errors import ConflictError, InvalidError, NotAuthenticatedError, ServiceError
from service.events import repository as events
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import EXPERIMENT_ENDED
from service.metrics import service as metrics
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
    # The same answer for a wrong token and a missing attempt: it tells nobody which attempts exist.
    if attempt is None or token is None or not hmac.compare_digest(attempt.token_hash, hash_token(token)):
        raise _not_its_token()
    return attempt.token_hash


def _not_its_token() -> NotAuthenticatedError:
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


async def receive(session: AsyncSession, attempt_id: int, report: Report) -> ReportReply:
    """Apply one report of an authenticated attempt. Applied twice it changes nothing more.

    Raises:
        SupersededError: the attempt is over, or a later one runs.
        InvalidError: a trial the experiment does not have.
    """
    (answer,) = await receive_all(session, attempt_id, [Delivery.of(report)])
    if isinstance(answer, ServiceError):
        raise answer
    return answer


async def receive_all(
    session: AsyncSession, attempt_id: int, deliveries: Sequence[Delivery]
) -> list[ReportReply | ServiceError]:
    """Apply reports of an authenticated attempt in their order, as `receive` does each: an answer for every one.

    Raises SupersededError if nothing of them counts.
    """
    misfits = await _misfits(session, attempt_id, deliveries)
    # The experiment's lock first, always: it orders this report, the dispatcher's steps and a user's actions.
    experiment = await repository.lock_experiment(session, attempt_id)
    attempt = await repository.get(session, attempt_id)
    if attempt is None:
        raise SupersededError
    if experiment is None or attempt.ended_at is not None or attempt.number != experiment.attempt:
        return [SupersededError() for _ in deliveries]
    rows = await _trials(session, experiment.id, deliveries)
    outcome: Outcome | None = None
    answers: list[ReportReply | ServiceError] = []
    taken: list[Delivery] = []
    for delivery, misfit in zip(deliveries, misfits, strict=True):
        numbers = {update.number for update in delivery.trials} | {series.trial for series in delivery.series}
        if outcome is not None:
            answers.append(SupersededError())
        elif not hmac.compare_digest(delivery.token_hash or attempt.token_hash, attempt.token_hash):
            answers.append(_not_its_token())  # exchanged meanwhile, at another replica
        elif unknown := sorted(numbers - rows.keys()):
            answers.append(InvalidError(f"The experiment has no trial {unknown[0]}.", title="Invalid report"))
        elif misfit is not None:
            answers.append(InvalidError(misfit, title="Invalid report"))
        else:
            answers.append(ReportReply(directive="continue" if experiment.desired_state == "run" else "stop"))
            taken.append(delivery)
            outcome = delivery.outcome
    if taken:
        await _apply(session, experiment, attempt, taken, rows)
    return answers


async def _apply(
    session: AsyncSession,
    experiment: Experiment,
    attempt: Attempt,
    deliveries: Sequence[Delivery],
    rows: dict[int, Trial],
) -> None:
    attempt.heartbeat_at = func.now()  # the database's clock, not this machine's
    if attempt.started_at is None:
        attempt.started_at = func.now()
    before = _figures(experiment)
    if attempt.state == "starting":
        await _mark_running(session, experiment, attempt)
    updates = [update for delivery in deliveries for update in delivery.trials]
    for update in updates:
        await _update_trial(session, rows[update.number], update)
    if updates:
        experiment.trials_done = await trials.count_ended(session, experiment.id)
    for delivery in deliveries:
        _note_waiting(experiment, delivery.waiting)
        if delivery.data:
            await experiments.add_data(session, experiment.id, delivery.data)
    series = [one for delivery in deliveries for one in delivery.series]
    if series:
        await metrics.write(session, experiment, series, rows)
    if _figures(experiment) != before:
        await session.flush()
        await events.append(session, experiment.id, "experiment", {"state": experiment.state})
    if (outcome := deliveries[-1].outcome) is not None:
        await _finish(session, experiment, attempt, outcome)


def _figures(experiment: Experiment) -> tuple[object, ...]:
    """What lists show of an experiment beside its state."""
    return experiment.trials_done, experiment.best_trial, experiment.best_value, experiment.state_reason


async def _trials(session: AsyncSession, experiment_id: int, deliveries: Sequence[Delivery]) -> dict[int, Trial]:
    numbers = {update.number for delivery in deliveries for update in delivery.trials}
    numbers |= {series.trial for delivery in deliveries for series in delivery.series}
    return {trial.number: trial for trial in await trials.by_number(session, experiment_id, numbers)} if numbers else {}


async def _mark_running(session: AsyncSession, experiment: Experiment, attempt: Attempt) -> None:
    attempt.state = "running"
    if experiment.started_at is None:
        experiment.started_at = func.now()
    if experiment.state == "starting":
        await change_state(session, experiment, "running", by="worker")


def _note_waiting(experiment: Experiment, waiting: str | None) -> None:
    """Show what the attempt waits for as the reason of the experiment's state, until it says that it is over."""
    if waiting is not None and experiment.state == "running":
        experiment.state_reason = waiting or None


async def _update_trial(session: AsyncSession, trial: Trial, update: TrialUpdate) -> None:
    before = _shown(trial)
    trial.state, trial.epoch, trial.epochs, trial.error = update.state, update.epoch, update.epochs, update.error
    trial.reason = update.reason
    if update.params is not None:
        trial.params = update.params
    if _shown(trial) == before:
        return
    if trial.state == "running":  # without reading it: the report before, in this transaction, may have set it
        trial.started_at = func.coalesce(Trial.started_at, func.now())
    ended = trial.state in trials.ENDED
    trial.ended_at = func.now() if ended else None
    await session.flush()
    await events.append(session, trial.experiment_id, "trial", {"number": trial.number, "state": trial.state})


def _shown(trial: Trial) -> tuple[object, ...]:
    return trial.state, trial.epoch, trial.epochs, trial.error, trial.reason, trial.params


async def _misfits(session: AsyncSession, attempt_id: int, deliveries: Sequence[Delivery]) -> list[str | None]:
    """What is wrong with values that the worker chose, for every delivery. There may be thousands: no lock is held."""
    if all(update.params is None for delivery in deliveries for update in delivery.trials):
        return [None] * len(deliveries)
    fields = await repository.spec(session, attempt_id)
    if fields is None:  # deleted: nothing of them counts
        return [None] * len(deliveries)
    return await asyncio.to_thread(_find_misfits, fields, [delivery.trials for delivery in deliveries])


def _find_misfits(fields: Mapping[str, Any], reported: Sequence[Sequence[TrialUpdate]]) -> list[str | None]:
    space = (fields.get("search") or {}).get("space", {})
    # A search lists thousands of values, and a trial has none of it.
    spec = ExperimentSpec.model_validate({name: value for name, value in fields.items() if name != "search"})
    return [_misfit(spec, space, updates) for updates in reported]


def _misfit(spec: ExperimentSpec, space: Mapping[str, Any], updates: Sequence[TrialUpdate]) -> str | None:
    """What is wrong with values: paths that are not searched, or values the spec refuses."""
    for update in updates:
        if update.params is None:
            continue
        if unknown := sorted(update.params.keys() - space.keys()):
            return f"Trial {update.number}: the search does not vary {unknown[0]}."
        try:
            spec.with_params(update.params)
        except (ValueError, KeyError) as error:
            return f"Trial {update.number}: these values do not fit the spec: {error}"
    return None


async def _finish(session: AsyncSession, experiment: Experiment, attempt: Attempt, outcome: Outcome) -> None:
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
