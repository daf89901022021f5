"""Removes what is older than the audit is kept, in the background."""

import asyncio
import logging

from service.database.audit import prune
from service.database.engine import Database

logger = logging.getLogger(__name__)

_EVERY_S = 3600.0
_AT_ONCE = 10_000


class Retention:
    """The background task of one service."""

    def __init__(self, database: Database, days: float) -> None:
        self._database = database
        self._days = days
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="audit-retention")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.prune()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                logger.warning("the audit could not be shortened, trying again: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def prune(self) -> None:
        """Remove what is too old, in steps that hold nobody up."""
        removed = _AT_ONCE
        while removed == _AT_ONCE:
            async with self._database.transaction() as session:
                removed = await prune(session, self._days, _AT_ONCE)
