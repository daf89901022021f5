"""What workers' reports do to experiments: what is read is decided here and written by one statement.

The fence: a report counts only from the experiment's latest attempt, with its token, while that attempt is open. The
statement that writes checks it again, and that nothing else has happened to the experiment: each event raises its
`seq`. Points and trial states of many attempts go together; what happens once in an attempt's life (its first report,
its outcome) goes through the same functions as everywhere, under the experiment's lock.
"""

import asyncio
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import Row, func
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from adadim_core.spec import ExperimentSpec
from adadim_core.spec.report import Outcome, ReportReply, TrialUpdate
from adadim_core.spec.seeds import SEED_PATH
from service.attempts import reports, repository
from service.attempts.body import Delivery
from service.attempts.service import SupersededError, finish, not_its_token
from service.database.tables import Experiment
from service.errors import InvalidError, ServiceError
from service.experiments import repository as experiments
from service.experiments.service import change_state
from service.experiments.states import TRIAL_ENDED
from service.metrics import repository as metrics
from service.metrics.codec import encode
from service.metrics.points import Points
from service.metrics.service import Candidate, Latest, best_after, best_of, latest_after

_LARGE = 2000
"""Points that take long enough to encode to leave the event loop for it."""

Answer = ReportReply | ServiceError


async def receive_plain(
    connection: AsyncConnection, group: Mapping[int, Sequence[Delivery]]
) -> dict[int, list[Answer]]:
    """Apply what reports hold ordinarily, points and trial states, of many attempts, each attempt's in their order.

    Two statements, each a transaction of its own: one reads, one writes what was decided of those experiments that are
    still as they were read. Returns the answers by attempt, in the order of its reports. Missing are attempts of which
    nothing was done, and which `receive` takes: they have more to say, or their experiments are locked or changed.
    """
    receipts, numbers = await _read(connection, group)
    receipts = [receipt for receipt in receipts if receipt.is_plain(numbers)]
    answers = {receipt.row.attempt_id: receipt.admit({}, None) for receipt in receipts}
    taken = [receipt for receipt in receipts if receipt.taken]
    stored = await _store(connection, taken, numbers)
    for receipt in taken:
        if receipt.row.attempt_id not in stored:
            del answers[receipt.row.attempt_id]
    return answers


async def receive(session: AsyncSession, attempt_id: int, deliveries: Sequence[Delivery]) -> list[Answer]:
    """Apply any reports of an authenticated attempt in their order, under the lock of its experiment."""
    wrong = await _wrong_params(session, attempt_id, deliveries)
    connection = await session.connection()
    await reports.lock(connection, attempt_id)
    receipts, numbers = await _read(connection, {attempt_id: deliveries})
    if not receipts:  # deleted with its experiment
        return [SupersededError() for _ in deliveries]
    (receipt,) = receipts
    experiment_id = receipt.row.experiment_id
    known = await metrics.names_of_experiment(session, experiment_id) if receipt.new_names() else None
    answers = receipt.admit(wrong, known)
    if not receipt.taken:
        return answers
    if receipt.row.attempt_state == "starting":
        await _begin(session, receipt)
    if (names := receipt.metric_names()) - numbers.keys():
        numbers = await metrics.metric_ids(session, names, create=True)
    await _store(connection, [receipt], numbers)
    for delivery in receipt.taken:
        if delivery.data:
            await experiments.add_data(session, experiment_id, delivery.data)
    if (outcome := receipt.taken[-1].outcome) is not None:
        await finish(session, experiment_id, attempt_id, outcome)
    return answers


async def _read(
    connection: AsyncConnection, group: Mapping[int, Sequence[Delivery]]
) -> tuple[list["_Receipt"], dict[str, int]]:
    """What reports concern, attempt by attempt, and the numbers of the metrics in them that have one."""
    keys = [(attempt_id, number) for attempt_id, deliveries in group.items() for number in _trial_numbers(deliveries)]
    receipts: dict[int, _Receipt] = {}
    numbers: dict[str, int] = {}
    for row in await reports.read(connection, keys, _metric_names(one for some in group.values() for one in some)):
        receipt = receipts.get(row.attempt_id)
        if receipt is None:
            receipt = receipts[row.attempt_id] = _Receipt(row, group[row.attempt_id])
            numbers = numbers or json.loads(row.metrics or "{}")
        if row.trial_id is not None:
            receipt.trials[row.trial_number] = _Trial.of(row)
    return [*receipts.values()], numbers


def _trial_numbers(deliveries: Sequence[Delivery]) -> Iterable[int | None]:
    """Numbers of the trials in the reports, or None alone, so that the attempt itself is read."""
    return {number for delivery in deliveries for number in delivery.trial_numbers} or [None]


def _metric_names(deliveries: Iterable[Delivery]) -> set[str]:
    return {name for delivery in deliveries for series in delivery.series for name in series.values}


async def _store(connection: AsyncConnection, receipts: Sequence["_Receipt"], numbers: Mapping[str, int]) -> set[int]:
    """Decide and write; the attempts whose reports are stored."""
    if not receipts:
        return set()
    for receipt in receipts:
        await receipt.apply(numbers)
    await _ask_for_best(connection, [receipt for receipt in receipts if receipt.best_is_unknown])
    return await reports.write(connection, _changes(receipts))


@dataclass
class _Trial:
    """A trial as it was, and as the reports leave it."""

    row: Row[Any]
    state: str
    epoch: int
    epochs: int
    error: str | None
    reason: str | None
    latest: Latest
    params: dict[str, Any] | None = None
    """None: as they were."""
    has_points: bool = False
    moved: bool = False
    """What lists show of it is another, values aside."""
    ran: bool = False

    @classmethod
    def of(cls, row: Row[Any]) -> "_Trial":
        latest = orjson.loads(row.latest)
        return cls(row, row.trial_state, row.epoch, row.epochs, row.error, row.reason, latest)

    def update(self, update: TrialUpdate) -> None:
        before = (self.state, self.epoch, self.epochs, self.error, self.reason)
        after = (update.state, update.epoch, update.epochs, update.error, update.reason)
        self.state, self.epoch, self.epochs, self.error, self.reason = after
        moved = before != after
        if update.params is not None and update.params != (self.params or json.loads(self.row.params)):
            self.params, moved = update.params, True
        self.moved |= moved
        self.ran |= moved and self.state == "running"


@dataclass
class _Receipt:
    """What one attempt's reports change, decided from its locked row."""

    row: Row[Any]
    deliveries: Sequence[Delivery]
    trials: dict[int, _Trial] = field(default_factory=dict)
    taken: list[Delivery] = field(default_factory=list)
    added_names: set[str] = field(default_factory=set)
    state: str = ""
    seq: int = 0
    best: Candidate | None = None
    best_is_unknown: bool = False
    segment: tuple[int, bytes] | None = None
    """How many points, and their body."""

    def __post_init__(self) -> None:
        self.state, self.seq = self.row.state, self.row.seq
        if self.row.best_trial is not None:
            self.best = Candidate(self.row.best_trial, self.row.best_value)

    def metric_names(self) -> set[str]:
        """Of the reports that are taken."""
        return _metric_names(self.taken)

    def is_plain(self, numbers: Mapping[str, int]) -> bool:
        """Whether the reports hold points and trial states only, of metrics the experiment has."""
        return (
            self.row.attempt_state != "starting"
            and not any(one.outcome or one.data for one in self.deliveries)
            and not any(update.params is not None for one in self.deliveries for update in one.trials)
            and _metric_names(self.deliveries) <= numbers.keys()
            and not self.new_names()
        )

    def new_names(self) -> bool:
        """Whether a trial reports a metric for the first time, so that the experiment's names must be counted."""
        return any(
            name not in self.trials[series.trial].latest
            for delivery in self.deliveries for series in delivery.series if series.trial in self.trials
            for name in series.values
        )  # fmt: skip

    def admit(self, wrong: Mapping[int, str], names: AbstractSet[str] | None) -> list[Answer]:
        """An answer to each report; those taken are kept in `taken`, metrics new to the experiment in `added_names`.

        Args:
            wrong: what is wrong with values the worker chose, by the report's place.
            names: of metrics the experiment has; None where no trial reports one for the first time.
        """
        row = self.row
        if row.over or row.number != row.current:
            return [SupersededError() for _ in self.deliveries]
        reply = ReportReply(directive="continue" if row.desired_state == "run" else "stop")
        answers: list[Answer] = []
        outcome: Outcome | None = None
        for place, delivery in enumerate(self.deliveries):
            named = {name for series in delivery.series for name in series.values}
            if outcome is not None:
                answers.append(SupersededError())
            elif not hmac.compare_digest(delivery.token_hash or row.token_hash, row.token_hash):
                answers.append(not_its_token())  # exchanged meanwhile, at another replica
            elif unknown := sorted(delivery.trial_numbers - self.trials.keys()):
                answers.append(InvalidError(f"The experiment has no trial {unknown[0]}.", title="Invalid report"))
            elif place in wrong:
                answers.append(InvalidError(wrong[place], title="Invalid report"))
            elif names is not None and len(names | self.added_names | named) > metrics.MAX_NAMES:
                detail = f"An experiment has at most {metrics.MAX_NAMES} metrics; use names without numbers in them."
                answers.append(InvalidError(detail, title="Invalid report"))
            else:
                answers.append(reply)
                self.taken.append(delivery)
                if names is not None:
                    self.added_names |= named - names
                outcome = delivery.outcome
        return answers

    async def apply(self, numbers: Mapping[str, int]) -> None:
        """Bring the trials to where the reports say they are, and points into a segment."""
        for delivery in self.taken:
            for update in delivery.trials:
                self.trials[update.number].update(update)
        points = Points.concat(
            [part for delivery in self.taken for series in delivery.series for part in series.points(numbers)]
        )
        if len(points):
            known = {number: trial.latest for number, trial in self.trials.items()}
            for number, latest in latest_after(points, known, {n: name for name, n in numbers.items()}).items():
                self.trials[number].latest, self.trials[number].has_points = latest, True
            large = len(points) > _LARGE
            body = (
                await asyncio.to_thread(encode, points, with_series=True) if large else encode(points, with_series=True)
            )
            self.segment = len(points), body
        best = best_after(self.best, self.candidates(), self.row.mode)
        if best == "unknown":
            self.best_is_unknown = len(self.candidates()) < self.row.trial_count
            self.best = best_of(self.candidates().values(), self.row.mode)
        else:
            self.best = best

    def candidates(self) -> dict[int, Candidate | None]:
        """Trials that changed, as candidates for the best."""
        return {
            number: Candidate.of(number, trial.state, trial.latest, self.row.metric)
            for number, trial in self.trials.items() if trial.moved or trial.has_points
        }  # fmt: skip

    @property
    def trials_done(self) -> int:
        ended = [
            (trial.state in TRIAL_ENDED) - (trial.row.trial_state in TRIAL_ENDED) for trial in self.trials.values()
        ]
        return int(self.row.trials_done + sum(ended))

    @property
    def state_reason(self) -> str | None:
        """What the attempt waits for, until it says that it is over."""
        said = [delivery.waiting for delivery in self.taken if delivery.waiting is not None]
        reason: str | None = self.row.state_reason
        return (said[-1] or None) if said and self.state == "running" else reason


async def _begin(session: AsyncSession, receipt: _Receipt) -> None:
    """An attempt's first report."""
    experiment = await session.get_one(Experiment, receipt.row.experiment_id, populate_existing=True)
    if experiment.started_at is None:
        experiment.started_at = func.now()
    if experiment.state == "starting":
        await change_state(session, experiment, "running", by="worker")
    await session.flush()
    await session.refresh(experiment)
    receipt.state, receipt.seq = experiment.state, experiment.seq


async def _ask_for_best(connection: AsyncConnection, receipts: Sequence[_Receipt]) -> None:
    """Where the best trial lost ground: compare those that changed with the best of the others."""
    if not receipts:
        return
    keys = [(r.row.experiment_id, number) for r in receipts for number in r.candidates()]
    searches = [(r.row.experiment_id, r.row.metric, r.row.mode) for r in receipts]
    others = await reports.best_of_others(connection, searches, keys)
    for receipt in receipts:
        other = others.get(receipt.row.experiment_id)
        receipt.best = best_of((receipt.best, Candidate(*other) if other else None), receipt.row.mode)


def _changes(receipts: Sequence[_Receipt]) -> reports.Changes:
    changes = reports.Changes()
    for receipt in receipts:
        row, seq = receipt.row, receipt.seq
        changes.attempts.append((row.attempt_id, receipt.seq, row.token_hash))
        for trial in receipt.trials.values():
            if not (trial.moved or trial.has_points):
                continue
            changes.trials.append((
                row.experiment_id, trial.row.trial_id,
                trial.state, trial.epoch, trial.epochs, trial.error, trial.reason,
                None if trial.params is None else json.dumps(trial.params),
                orjson.dumps(trial.latest).decode() if trial.has_points else None,
                trial.ran, trial.moved, trial.state in TRIAL_ENDED,
            ))  # fmt: skip
            if trial.moved:
                seq += 1
                payload = json.dumps({"number": trial.row.trial_number, "state": trial.state})
                changes.events.append((row.experiment_id, seq, "trial", payload))
        if receipt.segment is not None:
            seq += 1
            changes.segments.append((row.experiment_id, seq, *receipt.segment))
        best = (None, None) if receipt.best is None else (receipt.best.number, receipt.best.value)
        figures = (receipt.trials_done, *best, receipt.state_reason)
        if figures != (row.trials_done, row.best_trial, row.best_value, row.state_reason):
            seq += 1
            changes.events.append((row.experiment_id, seq, "experiment", json.dumps({"state": receipt.state})))
        if seq != receipt.seq:
            changes.experiments.append((row.experiment_id, seq, *figures))
        changes.names += [(row.experiment_id, name) for name in sorted(receipt.added_names)]
    return changes


async def _wrong_params(session: AsyncSession, attempt_id: int, deliveries: Sequence[Delivery]) -> dict[int, str]:
    """What is wrong with values the worker chose, by the report's place. There may be thousands: no lock is held."""
    if all(update.params is None for delivery in deliveries for update in delivery.trials):
        return {}
    fields = await repository.spec(session, attempt_id)
    if fields is None:  # deleted: nothing of them counts
        return {}
    return await asyncio.to_thread(_find_wrong_params, fields, [delivery.trials for delivery in deliveries])


def _find_wrong_params(fields: Mapping[str, Any], reported: Sequence[Sequence[TrialUpdate]]) -> dict[int, str]:
    search = fields.get("search") or {}
    varied = set(search.get("space", {})) | (set() if search.get("seeds", 1) == 1 else {SEED_PATH})
    # A search lists thousands of values, and a trial has none of it.
    try:
        spec = ExperimentSpec.model_validate({name: value for name, value in fields.items() if name != "search"})
    except ValidationError:  # of another version: which values fit it is not known here
        spec = None
    found = ((place, _wrong(spec, varied, updates)) for place, updates in enumerate(reported))
    return {place: detail for place, detail in found if detail is not None}


def _wrong(spec: ExperimentSpec | None, varied: set[str], updates: Sequence[TrialUpdate]) -> str | None:
    """What is wrong with values: paths that are not searched, or values the spec refuses."""
    for update in updates:
        if update.params is None:
            continue
        if unknown := sorted(update.params.keys() - varied):
            return f"Trial {update.number}: the search does not vary {unknown[0]}."
        if spec is None:
            continue
        try:
            spec.with_params(update.params)
        except (ValueError, KeyError) as error:
            return f"Trial {update.number}: these values do not fit the spec: {error}"
    return None
