"""`python -m workers import`: what goes wrong is one line for people. tests/service/test_imports.py has the rest."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from worker_harness import tiny_spec

from adadim_core.spec import validate_spec
from adadim_core.storage.object_store import StorageAway
from workers.__main__ import main
from workers.storage.claim import prepare
from workers.storage.folder import Storage
from workers.storage.points import write_points
from workers.storage.results import write_results
from workers.storage.spool import Spool
from workers.storage.trial_result import TrialResult


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """What a finished run leaves, and a service that would begin an import."""
    spec, storage = validate_spec(tiny_spec()), Storage(tmp_path / "results")
    prepare(storage, spec)
    Spool(storage.spool(0, "local-1"), 0).append(1, 0.1, {"h_r": 1.0})
    write_points(storage, [0])
    write_results(storage, spec, [TrialResult(0, {}, "succeeded", 2, 2, {"knn_top1": 0.5})])
    opened = {"experiment_id": 1, "attempt_id": 1, "token": "t"}
    monkeypatch.setattr("httpx.post", lambda *_, **__: httpx.Response(201, json=opened))
    monkeypatch.setenv("ADADIM_TOKEN", "t")
    return storage


def explained(storage: Storage, capsys: pytest.CaptureFixture[str], url: str = "http://127.0.0.1:9") -> str:
    assert main(["import", str(storage.root), "--service", url]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    return shown


def test_damaged_points_are_explained(results: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    whole = results.parquet.read_bytes()
    for content in (whole[:-8], whole[:4] + b"\0" * 40 + whole[44:]):
        results.parquet.write_bytes(content)
        assert "points.parquet cannot be read, it may be damaged" in explained(results, capsys)


def test_an_address_that_is_none_is_explained(
    results: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("ADADIM_TOKEN", "t")
    for url in ("http://[::1", "localhost:8080"):
        assert f"the service at {url} does not answer" in explained(results, capsys, url)


def test_another_server_is_explained(
    results: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("httpx.post", lambda *_, **__: httpx.Response(200, text="<html>"))
    assert "http://127.0.0.1:9 is no AdaDim service: it answers '<html>'" in explained(results, capsys)


def test_a_store_that_goes_away_is_explained(
    results: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> bool:
        raise StorageAway("reading spec.json failed: AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(Storage, "fetch", away)
    assert "reading spec.json failed: AWS Error NETWORK_CONNECTION" in explained(results, capsys)


def test_results_that_no_report_holds_are_explained(results: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    spec = validate_spec(tiny_spec())
    write_results(results, spec, [TrialResult(0, {}, "succeeded", -1, 2, {"knn_top1": 0.5})])
    results.parquet.unlink()
    write_points(results, [])
    assert "refused a part of the results: epoch: Input should be greater than" in explained(results, capsys)
