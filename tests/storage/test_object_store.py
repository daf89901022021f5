"""Requests to an object store: a real S3 server, stores that answer as they are told, pyarrow's own client."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adadim_core.storage.object_store import ObjectStore, StorageAway


def test_large_files_travel_whole(place: str, tmp_path: Path) -> None:
    remote, content = ObjectStore(place), bytes(range(256)) * 100_000
    (tmp_path / "large").write_bytes(content)
    remote.put(tmp_path / "large", "a/large")
    assert remote.sizes() == {"a/large": len(content)}
    assert remote.get("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    remote.remove("a/large")
    remote.remove("a/large")
    assert remote.sizes() == {}


def failing_once(remote: ObjectStore, words: str) -> None:
    """The next upload fails with these words of pyarrow's."""
    real = remote._fs

    class Store:
        def open_output_stream(self, path: str) -> Any:
            remote._fs = real
            raise OSError(f"When initiating multiple part upload for key 'x/k' in bucket 'bucket': {words}")

    remote._fs = Store()


def test_a_store_that_is_away_is_tried_again(place: str, tmp_path: Path) -> None:
    remote, file = ObjectStore(place), tmp_path / "file"
    file.write_bytes(b"here")
    for words in (
        "AWS Error NETWORK_CONNECTION during CreateMultipartUpload operation: curlCode: 7, Could not connect to server",
        "AWS Error UNKNOWN (HTTP status 503) during CreateMultipartUpload operation: No response body.",
        "AWS Error UNKNOWN (HTTP status 429) during CreateMultipartUpload operation: Unable to parse ExceptionName",
    ):
        failing_once(remote, words)
        remote.put(file, "file", patience=20)
    assert remote.sizes() == {"file": 4}
    failing_once(remote, "AWS Error SLOW_DOWN during CreateMultipartUpload operation: SlowDown")
    with pytest.raises(StorageAway, match="writing file failed"):
        remote.put(file, "file")


def test_a_full_disk_of_this_node_is_not_the_store_being_away(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = ObjectStore(place)
    (tmp_path / "file").write_bytes(b"x")
    remote.put(tmp_path / "file", "file")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left") as caught:
        remote.get("file", tmp_path / "back", patience=30)
    assert not isinstance(caught.value, StorageAway)


@pytest.mark.slow
def test_google_s_store_that_is_away_is_tried_again(
    store_that_says: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    # Google's client tries again by itself too: until ours has, the store is away.
    endpoint = store_that_says(
        lambda: (200, b'{"kind": "storage#bucket", "name": "b"}') if "trying again" in caplog.text else (503, b"")
    )
    address = "gs://anonymous@b/x?endpoint_override={}&scheme=http&retry_limit_seconds=1"
    remote = ObjectStore(address.format(endpoint))
    remote.check(patience=60)
    assert remote.sizes() == {}
    with pytest.raises(StorageAway):
        ObjectStore(address.format("127.0.0.1:9")).check()
    refusing = store_that_says(lambda: (403, b'{"error": {"code": 403, "message": "no right"}}'))
    with pytest.raises(OSError, match="PERMISSION_DENIED") as caught:
        ObjectStore(address.format(refusing)).check(patience=300)
    assert not isinstance(caught.value, StorageAway)


def test_a_write_that_breaks_off_leaves_what_was_there(place: str, tmp_path: Path) -> None:
    remote, file = ObjectStore(place), tmp_path / "file"
    for content in (b"first", b""):
        file.write_bytes(content)
        remote.put(file, "file")
        assert remote.sizes() == {"file": len(content)}
    file.unlink()
    with pytest.raises(FileNotFoundError):
        remote.put(file, "file")
    assert remote.sizes() == {"file": 0}


@pytest.mark.slow
def test_a_store_that_is_away_when_it_is_opened_is_tried_again(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An end that is asked for meanwhile ends the wait."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    def before_retry() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ObjectStore(place, patience=300, before_retry=before_retry).check(patience=300)
    assert "opening the storage failed" in caplog.text


def test_a_store_that_stays_away_is_told_of_once_nobody_is_patient_any_more(place: str, tmp_path: Path) -> None:
    told: list[str] = []
    remote = ObjectStore(place, on_away=told.append)
    (tmp_path / "file").touch()
    for patience in (0.0, 0.01):
        failing_once(remote, "AWS Error SLOW_DOWN during PutObject operation: SlowDown")
        with pytest.raises(StorageAway):
            remote.put(tmp_path / "file", "file", patience=patience)
    assert len(told) == 1
    assert told[0].startswith("the storage is away: writing file failed: When initiating")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_pyarrow_says_of_a_store_that_is_away_is_known(store_that_says: Callable[..., str], status: int) -> None:
    """pyarrow has no other word on it than its message: one that changes it must not pass unseen."""
    from pyarrow import fs

    remote = ObjectStore("s3://id:secret@bucket/x?scheme=http&region=x")
    for endpoint in (store_that_says(lambda: (status, b"")), "127.0.0.1:9"):
        remote._fs = fs.S3FileSystem(
            access_key="a", secret_key="b", endpoint_override=endpoint, scheme="http", region="x",
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )  # fmt: skip
        with pytest.raises(StorageAway):
            remote.open("file")


def test_no_error_carries_the_keys_of_the_address(s3: Any) -> None:
    location = f"s3://id:to%2Fpse%26cret@nobucket/x?endpoint_override={s3.address}&scheme=http"
    remote = ObjectStore(location)
    with pytest.raises(OSError, match="no bucket nobucket") as caught:
        remote.check()
    assert "pse" not in f"{caught.value!r}{caught.value.__cause__!r}"
    with pytest.raises(OSError, match="failed") as caught:
        ObjectStore("s3://id:topsecret@nobucket/x?no_such_setting=1")
    assert "topsecret" not in f"{caught.value!r}{caught.value.__cause__!r}"
