"""The room left in the storage is told while it can be, and a server that hangs costs one thread."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from service.health import storage
from service.health.storage import StorageSpace


async def test_a_folder_tells_its_room_before_it_is_there_and_a_bucket_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_PATIENCE_S", 60.0)
    found = await StorageSpace(str(tmp_path / "not" / "yet")).read()
    assert found is not None
    assert found[0] == shutil.disk_usage(tmp_path).total
    assert 0 < found[1] < found[0]
    assert await StorageSpace("s3://bucket/folder").read() is None


async def test_a_server_that_hangs_holds_one_thread_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, calls, usage = threading.Event(), [], shutil.disk_usage(tmp_path)

    def slow(_: Any) -> Any:
        calls.append(threading.current_thread())
        hang.wait(60)
        return usage

    monkeypatch.setattr(storage, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(shutil, "disk_usage", slow)
    space = StorageSpace(str(tmp_path))
    assert [await space.read() for _ in range(3)] == [None] * 3
    assert len(calls) == 1
    hang.set()
    await asyncio.to_thread(calls[0].join, 30)
    monkeypatch.setattr(storage, "_PATIENCE_S", 30.0)
    assert await space.read() == (usage.total, usage.free)
