"""Wake-ups between processes: PostgreSQL's NOTIFY sends them, one LISTEN connection a process receives them.

A wake-up only says "look again": nothing is lost when one is missed, because every waiter also looks from time
to time, and after the listening connection was lost everyone is woken.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.address import read_address
from service.database.connection import CONNECT_ERRORS, connect

logger = logging.getLogger(__name__)

EVENTS = "adadim_events"
"""Payload: the id of an experiment with new events."""
DISPATCH = "adadim_dispatch"
"""Payload: empty. The dispatcher has something to do."""

_RECONNECT_S = 1.0


async def notify(session: AsyncSession, channel: str, payload: str = "") -> None:
    """Wake the waiters of a channel and payload once the transaction commits."""
    await session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload})


class Listener:
    """Receives notifications and sets the events of those who wait for them."""

    def __init__(self, url: str) -> None:
        self._address = read_address(url)
        self._waiters: dict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, in a task of its own."""
        self._task = asyncio.create_task(self._listen(), name="listener")

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def subscribe(self, channel: str, payload: str = "") -> Iterator[asyncio.Event]:
        """An event that is set whenever the channel is notified with this payload. The waiter clears it."""
        key, event = (channel, payload), asyncio.Event()
        self._waiters[key].add(event)
        try:
            yield event
        finally:
            self._waiters[key].discard(event)
            if not self._waiters[key]:
                del self._waiters[key]

    def _on_notification(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        for event in self._waiters.get((channel, str(payload)), ()):
            event.set()

    def wake_all(self) -> None:
        """Have every waiter look again."""
        for events in self._waiters.values():
            for event in events:
                event.set()

    async def _listen(self) -> None:
        while True:
            try:
                connection = await connect(self._address)
                try:
                    for channel in (EVENTS, DISPATCH):
                        await connection.add_listener(channel, self._on_notification)
                    self.wake_all()
                    # Ask now and then: a server that went away without a word is noticed only when spoken to.
                    while not connection.is_closed():
                        await asyncio.sleep(_RECONNECT_S)
                        await connection.execute("SELECT 1", timeout=5)
                finally:
                    connection.terminate()
            except CONNECT_ERRORS as error:
                logger.warning("lost the notification connection, trying again: %s", error)
            await asyncio.sleep(_RECONNECT_S)


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until the event is set or the time is over, and clear it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    event.clear()
