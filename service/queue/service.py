"""Choosing what starts next, and saying what the others wait for."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context
from service.database.tables import Experiment
from service.queue import repository
from service.queue.repository import Waiting
from service.queue.schemas import WaitingRead
from service.settings import Settings


async def lease(session: AsyncSession, settings: Settings, token: UUID, life: timedelta) -> Sequence[Experiment]:
    """Lease queued experiments for the slots that are free, in the queue's order."""
    await repository.lock(session)
    free = settings.slots - await repository.in_flight(session)
    if free <= 0:
        return []
    ids = await repository.next_ids(session, free, settings.owner_slots)
    return await repository.lease_next(session, ids, token, life) if ids else []


async def waiting(session: AsyncSession, context: Context, rows: Sequence[Experiment]) -> dict[int, WaitingRead]:
    """What those of the given experiments that are queued wait for, by number."""
    queued = {row.id: row.owner for row in rows if row.state == "queued"}
    if not queued:
        return {}
    used = await repository.in_flight(session)
    found = await repository.waiting(session, list(queued))
    return {
        number: WaitingRead(position=w.position, reason=_reason(w, queued[number], used, context))
        for number, w in found.items()
    }


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
