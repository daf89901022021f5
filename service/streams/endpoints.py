"""HTTP: the live stream of one experiment, as server-sent events.

A client's place is a number: there is no buffer per client to overflow, and a client that comes back with
Last-Event-ID misses nothing, whichever replica it reaches. A client that does not read is disconnected.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Message, Receive, Scope, Send

from service.auth.dependencies import Viewer
from service.context import Context, CurrentContext
from service.experiments import service as experiments
from service.experiments.dependencies import ExperimentId
from service.metrics.endpoints import MetricNames, split_names
from service.problems import PROBLEM_RESPONSES
from service.shares import PlacedResponse, Shares
from service.streams.feed import Feeds, Frame
from service.telemetry.counters import CLIENTS_DISCONNECTED

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/api/v1", tags=["events"], responses=PROBLEM_RESPONSES)

_streams = Shares("live streams", 2_000, each=500)
_PING_S = 15.0
_LIFE_S = 15 * 60.0
"""Connections end after this, so that they spread over replicas again; clients reconnect by themselves."""
_STALL_S = 20.0
"""A client that reads nothing for this long is disconnected; it resumes where it was."""
_PIECE = 64 * 1024
"""Bytes sent at a time: what may wait in memory for one slow reader."""

_EVENT_SCHEMA = {
    "description": "One event of the stream.",
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "Its number: Last-Event-ID resumes after it."},
        "event": {"enum": ["experiment", "trial", "points", "reset", "reconnect"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}


async def get_feeds(request: Request) -> Feeds:
    """The feeds of the application a request came to: `app.state.feeds`."""
    feeds: Feeds = request.app.state.feeds
    return feeds


CurrentFeeds = Annotated[Feeds, Depends(get_feeds)]


@router.get(
    "/experiments/{experiment_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": _EVENT_SCHEMA}}}},
)
async def stream_events(
    experiment_id: ExperimentId,
    principal: Viewer,
    context: CurrentContext,
    feeds: CurrentFeeds,
    *,
    after: Annotated[int, Query(ge=0, le=2**62, description="Start after this event.")] = 0,
    metrics: MetricNames = None,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$")] = None,
) -> StreamingResponse:
    """Follow an experiment: `experiment`, `trial` and `points` events, each with an id to resume from.

    `metrics` leaves other metrics out of the points. A `reset` event says that points from before its `seq` come no
    more as events: read them from /metrics.
    """
    async with context.database.transaction() as session:
        tip = (await experiments.find(session, experiment_id)).seq
    start = int(last_event_id) if last_event_id is not None else after
    return _PatientResponse(
        _streams,
        principal.name,
        _stream(context, feeds, experiment_id, start, tip, split_names(metrics)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _PatientResponse(PlacedResponse):
    """Ends when its reader takes nothing for a while. The socket's own time-out (cli/serve.py) closes it then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(_STALL_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:  # an answer left unfinished makes uvicorn close the connection
            CLIENTS_DISCONNECTED.inc()
            logger.info("disconnected a client of %s that reads nothing", scope["path"])


async def _stream(
    context: Context, feeds: Feeds, experiment_id: int, seq: int, tip: int, metrics: list[str] | None
) -> AsyncIterator[bytes | memoryview]:
    ends, next_ping = time.monotonic() + _LIFE_S, time.monotonic() + _PING_S
    told = 0
    wanted = None if metrics is None else frozenset(metrics)
    yield format_sse_event(retry=1000, comment=f"experiment {experiment_id} after event {seq}")
    with feeds.follow(experiment_id, tip) as feed:
        while time.monotonic() < ends and not context.closing:
            found = feed.kept(seq) or await feeds.older(experiment_id, seq)
            if found.gone:  # let the client find out by coming back
                return
            if max(seq, told) < found.merged:
                told = found.merged
                yield format_sse_event(event="reset", data_str=f'{{"seq": {found.merged}}}')
            async for piece in _pieces(found.frames, wanted):
                yield piece
            if found.end > seq:
                seq = found.end
                continue
            await feed.wait(_PING_S)
            if time.monotonic() >= next_ping:
                next_ping = time.monotonic() + _PING_S
                yield b": ping\n\n"
    yield format_sse_event(event="reconnect", data_str="{}")


async def _pieces(frames: deque[Frame], wanted: frozenset[str] | None) -> AsyncIterator[memoryview]:
    """Small events together, large ones in pieces. What was sent is forgotten."""
    while frames:
        data = await frames.popleft().of(wanted)
        while frames and len(data) < _PIECE:
            data += await frames.popleft().of(wanted)
        for at in range(0, len(data), _PIECE):
            yield memoryview(data)[at : at + _PIECE]
