"""The driver's side of an attempt: trial states, heartbeat and outcome, and the service's order to stop.

Owns what is reported about the attempt as a whole. Metric points are reporter.py's.
"""

import itertools
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from adadim_core.retrying import Backoff, retry
from adadim_core.spec.report import MAX_TRIALS_PER_REPORT, Outcome, Report, TrialState, TrialUpdate
from workers.reporting.connection import Connection, Refused, ServiceAddress, Superseded, Unavailable, why_refused
from workers.reporting.reporter import replay

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0
_STATE_SECONDS = 0.25
_MAX_ERROR = 20_000
_MAX_REASON = 1_000
_MAX_DATA_SETS = 8
"""In one report: the largest facts of so many fill no more than half of it."""
_MAX_BYTES = 4 * 1024 * 1024
"""Of trial updates in one report; the service takes 8 MiB."""


class OnStop(Protocol):
    """Called when the service wants the run to end; `at_once`: without saving anything more."""

    def __call__(self, reason: str, *, at_once: bool = False) -> None: ...


class Attempt:
    """The latest state of every trial, reported to the service as it changes. Without a service it is only kept.

    `update` may be called from any thread; `start`, `finish` and `abandon` belong to the driver's main thread.
    """

    def __init__(self, address: ServiceAddress | None, on_stop: OnStop) -> None:
        self._connection = Connection(address) if address is not None else None
        self._on_stop = on_stop
        self._lock = threading.Lock()
        self._trials: dict[int, TrialUpdate] = {}
        self._changed: dict[int, TrialUpdate] = {}
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting: str | None = None
        self._data: dict[str, dict[str, Any]] = {}
        self.superseded = False
        self.unreachable = ""
        """What the last try to reach the service met, if it failed."""

    def start(self) -> None:
        """Begin the heartbeat: from here on the service knows that the driver lives."""
        if self._connection is not None:
            self._thread = threading.Thread(target=self._run, args=(self._connection,), name="heartbeat", daemon=True)
            self._thread.start()

    def update(
        self,
        number: int,
        state: TrialState,
        *,
        epoch: int | None = None,
        epochs: int = 0,
        error: str | None = None,
        reason: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        """A trial's state changed. The latest one is delivered; those in between may be skipped.

        Args:
            number: The trial.
            state: What it is in now.
            epoch: Epochs completed; None: as before.
            epochs: Epochs it will run; 0: as before.
            error: Why it failed.
            reason: Why it was stopped.
            params: Its values, if they are not the planned ones.
        """
        with self._lock:
            before = self._trials.get(number)
            update = TrialUpdate(
                number=number,
                state=state,
                epoch=epoch if epoch is not None else before.epoch if before else 0,
                epochs=epochs or (before.epochs if before else 0),
                error=shortened(error),
                reason=reason[:_MAX_REASON] if reason else None,
                params=params,
            )
            self._trials[number] = self._changed[number] = update
        self._wake.set()

    def wait_for(self, what: str) -> None:
        """Say what the attempt waits for; an empty text: for nothing any more."""
        with self._lock:
            self._waiting = what[:_MAX_REASON]
        self._wake.set()

    def tell_data(self, name: str, facts: dict[str, Any]) -> None:
        """A trial trains on a data set: the facts about it. Those that no service takes are left out, and logged."""
        try:
            Report(data={name: facts})
        except ValidationError as error:
            logger.error("what was read of a data set is not reported: %s", why_refused(error))
            return
        with self._lock:
            self._data[name] = facts
        self._wake.set()

    def finish(self, outcome: Outcome, points: Path | None, *, timeout: float, limit: float = math.inf) -> bool:
        """Deliver points left behind, the last states, then the outcome. Returns whether the service has it.

        Args:
            outcome: How the attempt ended.
            points: Folder with the spools of this experiment, if there is one.
            timeout: Seconds after which an unreachable service is given up; the spools keep the points.
            limit: Seconds after which one that still takes points is given up too.
        """
        end = time.monotonic() + limit
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(min(timeout / 3, 12.0))  # a post may be under way
        if self._connection is None or self.superseded:
            return self._connection is None
        try:
            complete = points is None or replay(points, self._connection, timeout=timeout / 2, limit=limit / 2)
            if not complete and outcome.state != "interrupted":
                # The service takes no points after a final outcome; the next attempt delivers both.
                logger.warning("points are left in their spools: the outcome %r waits for them", outcome.state)
                return False
            return self._post_outcome(self._connection, outcome, min(time.monotonic() + timeout / 2, end))
        except Superseded as reason:
            logger.warning("the service no longer takes this attempt's reports: %s", reason)
            return False

    def _post_outcome(self, connection: Connection, outcome: Outcome, deadline: float) -> bool:
        outcome = Outcome(state=outcome.state, error=shortened(outcome.error))
        backoff = Backoff(longest=5.0)
        while True:
            updates, data, last = self._next_portion()
            try:
                _post(
                    connection, Report(trials=updates, data=data, outcome=outcome if last else None), deadline, backoff
                )
            except Unavailable as error:
                self.unreachable = str(error)
                logger.warning("outcome %r not delivered: %s", outcome.state, error)
                return False
            except (Refused, ValidationError) as error:
                if not data:
                    logger.error("the service refused the outcome %r: %s", outcome.state, why_refused(error))
                    return False
                self._drop(updates, data, error)
                continue
            self._delivered(updates, data)
            if last:
                return True

    def _run(self, connection: Connection) -> None:
        backoff, away = Backoff(longest=5.0), False
        while not self._ended.is_set():
            changed, data, _ = self._next_portion()
            pause = _STATE_SECONDS
            try:
                reply = connection.post(Report(trials=changed, data=data, waiting=self._waiting))
            except Superseded as reason:
                self.superseded = True
                # Another attempt may own the checkpoints by now.
                self._on_stop(f"this attempt was superseded ({reason})", at_once=True)
                return
            except (Refused, ValidationError) as error:
                self._drop(changed, data, error)
            except Unavailable as error:
                self.unreachable = str(error)
                if not away:
                    logger.warning("the service is away (%s); the run continues", error)
                away, pause = True, backoff.next(error.retry_after)
            else:
                if away:
                    logger.warning("the service is back")
                away = False
                backoff.reset()
                self._delivered(changed, data)
                if reply.directive == "stop":
                    self._on_stop("the service asked to stop")
            self._ended.wait(pause)
            if not away:
                self._wake.wait(HEARTBEAT_SECONDS - pause)
            self._wake.clear()

    def _next_portion(self) -> tuple[list[TrialUpdate], dict[str, dict[str, Any]], bool]:
        """What the next report tells of trials and of data sets, and whether that is all there is to tell."""
        with self._lock:
            updates = portion(list(self._changed.values()))
            data = dict(itertools.islice(self._data.items(), _MAX_DATA_SETS))
            return updates, data, len(updates) == len(self._changed) and len(data) == len(self._data)

    def _drop(
        self, updates: list[TrialUpdate], data: Mapping[str, dict[str, Any]], error: Refused | ValidationError
    ) -> None:
        """A report was refused: never told again are its facts about data sets or, where it has none, its states."""
        dropped = "facts about data sets" if data else "trial states"
        logger.error("the service refused %s: %s", dropped, why_refused(error))
        self._delivered([] if data else updates, data)

    def _delivered(self, updates: list[TrialUpdate], data: Mapping[str, dict[str, Any]]) -> None:
        with self._lock:
            for name in data:
                self._data.pop(name, None)
            for update in updates:
                if self._changed.get(update.number) is update:
                    del self._changed[update.number]


def _post(connection: Connection, report: Report, deadline: float, backoff: Backoff) -> None:
    retry(
        lambda: connection.post(report, timeout=min(10.0, deadline - time.monotonic())),
        Unavailable,
        deadline=deadline,
        backoff=backoff,
        asked=lambda error: error.retry_after,
    )


def portion(updates: Sequence[TrialUpdate]) -> list[TrialUpdate]:
    """As many of them as one report holds, from the first on."""
    size = 0
    for count, update in enumerate(updates[:MAX_TRIALS_PER_REPORT]):
        size += len(update.model_dump_json())
        if size > _MAX_BYTES and count:
            return list(updates[:count])
    return list(updates[:MAX_TRIALS_PER_REPORT])


def shortened(error: str | None) -> str | None:
    """An error of a length the service takes; of a long one both ends: what was run, and what went wrong at last."""
    if error is None or len(error) <= _MAX_ERROR:
        return error
    half = _MAX_ERROR // 2 - 20
    return f"{error[:half]}\n ... cut ...\n{error[-half:]}"
