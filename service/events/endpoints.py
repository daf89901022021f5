"""HTTP: the live stream of one experiment, as server-sent events.

A client's place is a number in the database: there is no buffer per client to overflow, and a client that comes
back with Last-Event-ID misses nothing, whichever replica it reaches.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from service.auth.dependencies import Viewer
from service.context import Context, CurrentContext
from service.database import notify
from service.database.tables import Event
from service.events import repository
from service.experiments import repository as experiment_rows
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.experiments.schemas import ExperimentRead
from service.problems import PROBLEM_RESPONSES
from service.trials import repository as trials
from service.trials.schemas import TrialRead

router = APIRouter(prefix="/api/v1", tags=["events"], responses=PROBLEM_RESPONSES)

_BATCH = 200
_POLL_S = 5.0
"""A notification lost on the way costs at most this."""
_PING_S = 15.0
_LIFE_S = 15 * 60.0
"""Connections end after this, so that they spread over replicas again; the client comes back by itself."""


@router.get(
    "/experiments/{experiment_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_events(
    experiment_id: ExperimentId,
    _: Viewer,
    context: CurrentContext,
    *,
    after: Annotated[int, Query(ge=0, le=2**62, description="Start after this event.")] = 0,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$")] = None,
) -> StreamingResponse:
    """Follow an experiment: `experiment`, `trial` and `points` events, each with an id to resume from."""
    async with context.database.transaction() as session:
        await experiments.find(session, experiment_id)
    start = int(last_event_id) if last_event_id is not None else after
    return StreamingResponse(
        _stream(context, experiment_id, start),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(context: Context, experiment_id: int, seq: int) -> AsyncIterator[bytes]:
    ends, next_ping = time.monotonic() + _LIFE_S, time.monotonic() + _PING_S
    yield format_sse_event(retry=1000, comment=f"experiment {experiment_id} after event {seq}")
    with context.listener.subscribe(notify.EVENTS, str(experiment_id)) as changed:
        while time.monotonic() < ends and not context.closing:
            found = await _read(context, experiment_id, seq)
            for event_seq, kind, data in found:
                seq = event_seq
                yield format_sse_event(event=kind, data_str=data, id=str(event_seq))
            if len(found) >= _BATCH:
                continue
            await notify.wait(changed, _POLL_S)
            if time.monotonic() >= next_ping:
                next_ping = time.monotonic() + _PING_S
                yield b": ping\n\n"
                # A deleted experiment has no more events: let the client find out by coming back.
                async with context.database.transaction() as session:
                    if await experiment_rows.get(session, experiment_id) is None:
                        return
    yield format_sse_event(event="reconnect", data_str="{}")


async def _read(context: Context, experiment_id: int, seq: int) -> list[tuple[int, str, str]]:
    """The events after `seq`: number, kind and data. State events carry the present state."""
    async with context.database.transaction() as session:
        events = await repository.after(session, experiment_id, seq, _BATCH)
        numbers = {int(e.payload["number"]) for e in events if e.kind == "trial"}
        current = {t.number: t for t in await trials.by_number(session, experiment_id, numbers)} if numbers else {}
        experiment = await experiment_rows.get(session, experiment_id)

    def data(event: Event) -> str | None:
        shown: BaseModel | None = None
        if event.kind == "points":
            return json.dumps(event.payload)
        if event.kind == "trial" and (trial := current.get(int(event.payload["number"]))):
            shown = TrialRead.model_validate(trial)
        elif event.kind == "experiment" and experiment is not None:
            shown = ExperimentRead.model_validate(experiment)
        return None if shown is None else shown.model_dump_json()

    return [(event.seq, event.kind, text) for event in events if (text := data(event)) is not None]
