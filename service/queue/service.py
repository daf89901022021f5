"""Choosing what starts next, and saying what the others wait for."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context
from service.database.tables import Experiment
from service.queue import repository
from service.queue.repository import Waiting
from service.queue.schemas import WaitingRead
from service.settings import Settings

_TRIAL_START = timedelta(seconds=20)
"""A job that runs for longer than this without a trial waits for room on the cluster."""
_NAMED = 3
"""Experiments that a reason names at most."""


async def lease(session: AsyncSession, settings: Settings, token: UUID, life: timedelta) -> Sequence[Experiment]:
    """Lease queued experiments for the slots that are free, in the queue's order."""
    await repository.lock(session)
    free = settings.slots - await repository.in_flight(session)
    if free <= 0:
        return []
    ids = await repository.next_ids(session, free, settings.owner_slots)
    return await repository.lease_next(session, ids, token, life) if ids else []


class Queued(Protocol):
    """What is asked of an experiment in the queue."""

    @property
    def id(self) -> int: ...
    @property
    def owner(self) -> str: ...


async def waiting(session: AsyncSession, context: Context, rows: Sequence[Queued]) -> dict[int, WaitingRead]:
    """What queued experiments wait for, by number."""
    queued = {row.id: row.owner for row in rows}
    if not queued:
        return {}
    used = await repository.in_flight(session)
    found = await repository.waiting(session, list(queued))
    return {
        number: WaitingRead(position=w.position, reason=_reason(w, queued[number], used, context))
        for number, w in found.items()
    }


async def waiting_for_room(session: AsyncSession, ids: Sequence[int]) -> dict[int, WaitingRead]:
    """What those experiments wait for whose job runs, but none of whose trials: for what others hold, by number."""
    if not ids:
        return {}
    holders = await repository.holders(session)
    return {
        number: WaitingRead(position=None, reason=f"waits for {_room(needs)}, held by {_numbered(others)}")
        for number, needs in (await repository.idle(session, ids, _TRIAL_START)).items()
        if (others := [holder for holder in holders if holder != number])
    }


def _room(resources: Mapping[str, Any]) -> str:
    """What one trial takes, as "2 CPUs and 1 GPU"."""
    processes = resources.get("workers", 1)
    cpus, gpus = processes * resources.get("cpus_per_worker", 1), resources.get("gpus_per_worker", "auto")
    words = f"{cpus} CPU{'s' * (cpus != 1)}"
    return words if gpus in ("auto", 0) else f"{words} and {processes * gpus:g} GPU{'s' * (processes * gpus != 1)}"


def _numbered(ids: Sequence[int]) -> str:
    named = ", ".join(f"#{number}" for number in ids[:_NAMED])
    return named if len(ids) <= _NAMED else f"{named} and {len(ids) - _NAMED} more"


def _reason(waiting: Waiting, owner: str, used: int, context: Context) -> str:
    slots, owner_slots = context.settings.slots, context.settings.owner_slots
    if waiting.held:
        return "the job of its last attempt is still ending"
    if not waiting.due:
        return f"trying again at {waiting.due_at:%H:%M:%S %Z}, after an attempt that broke off"
    if context.jobs.address is None:
        return context.jobs.trouble or "the Ray cluster is starting"
    if used >= slots:
        return f"{used} of {slots} slots in use"
    if owner_slots is not None and waiting.owner_in_flight >= owner_slots:
        return f"{waiting.owner_in_flight} of {owner_slots} slots of {owner} in use"
    return "starting next" if waiting.position == 1 else f"starting after {waiting.position - 1} others"
