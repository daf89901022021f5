"""How much room the storage has left, where it is a folder; what a bucket has left nobody knows.

A folder on a server that does not answer holds whoever looks at it: at most one thread of this process.
"""

import asyncio
import shutil
import threading
from pathlib import Path

from adadim_core.storage.address import in_object_store

_PATIENCE_S = 1.0


class StorageSpace:
    """The room on the file system of the storage."""

    def __init__(self, root: str) -> None:
        self._folder = None if in_object_store(root) else Path(root)
        self._looking: threading.Thread | None = None

    async def read(self) -> tuple[int, int] | None:
        """Bytes in all and bytes free; None: it is a bucket, or does not answer now."""
        folder = self._folder
        if folder is None or (self._looking is not None and self._looking.is_alive()):
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[int, int] | None] = loop.create_future()

        def tell(found: tuple[int, int] | None) -> None:
            if not answer.done():
                answer.set_result(found)

        def look() -> None:
            try:
                # Before the first run there is no folder: what it will be in counts.
                there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
                usage = shutil.disk_usage(there)
            except OSError:
                found = None
            else:
                found = (usage.total, usage.free)
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, found)

        self._looking = threading.Thread(target=look, name="storage-space", daemon=True)
        self._looking.start()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await answer
        except TimeoutError:
            return None
