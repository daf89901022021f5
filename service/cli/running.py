"""`service.json` in the state directory: where the service that runs there answers, and what it stands on.

Owns its form. Clients read its `url` for themselves (adadim/connection.py), and believe nothing of it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adadim_core.storage.address import shown
from adadim_core.storage.atomic import write_text
from service.cluster.process import identity
from service.database.address import read_address
from service.settings import Settings

_NAME = "service.json"
_NO_RECORD = (OSError, ValueError, KeyError, TypeError)


def stands_on(settings: Settings) -> dict[str, str | None]:
    """Database, cluster and storage, by the variables that name them, without secrets. None: the service's own."""
    return {
        "DATABASE_URL": None if settings.database_url is None else read_address(settings.database_url).place,
        "RAY_ADDRESS": settings.ray_address,
        "ADADIM_STORAGE": shown(settings.storage_root),
    }


@contextmanager
def recorded(settings: Settings, url: str) -> Iterator[None]:
    """Keep the record for as long as the block."""
    path = settings.state_dir / _NAME
    write_text(path, json.dumps({"url": url, "pid": os.getpid(), "stands_on": stands_on(settings)}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def url_of(state_dir: Path) -> str | None:
    """Where the service answers that runs here, or was killed here; None: there is no record."""
    try:
        return str(json.loads((state_dir / _NAME).read_text())["url"])
    except _NO_RECORD:
        return None


def stood_on(state_dir: Path) -> dict[str, str | None] | None:
    """What the service that runs here stands on; None: none runs, or one of an earlier version."""
    try:
        record = json.loads((state_dir / _NAME).read_text())
        return dict(record["stands_on"]) if identity(int(record["pid"])) is not None else None
    except _NO_RECORD:
        return None
