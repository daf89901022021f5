"""An outcome that does not reach the service is left in the storage, with the address that was tried."""

import json
from pathlib import Path

import pytest
from worker_harness import FakeService, tiny_spec

from adadim_core.spec.report import Outcome
from adadim_core.spec.undelivered import Undelivered
from workers.__main__ import main


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that succeeds at once, told to nobody who answers."""
    monkeypatch.setattr("workers.__main__.run_experiment", lambda *_: Outcome(state="succeeded"))
    (tmp_path / "spec.json").write_text(json.dumps(tiny_spec()))
    return [str(tmp_path / "spec.json"), "--storage", str(tmp_path / "results")]


def left(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "results" / "logs").glob("*.json"))


def test_it_is_left_with_the_address_that_was_tried(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.__main__._OUTCOME_SECONDS", 0.5)  # nobody will answer
    address = {"SERVICE_URL": "http://127.0.0.1:9", "ATTEMPT_ID": "12", "ATTEMPT_CODE": "x"}
    for name, value in address.items():
        monkeypatch.setenv(f"ADADIM_{name}", value)
    assert main(arguments) == 0
    (file,) = left(tmp_path)
    assert file.name == "attempt-12.json"
    found = Undelivered.model_validate_json(file.read_bytes())
    assert (found.outcome.state, found.service) == ("succeeded", "http://127.0.0.1:9")
    assert "refused" in found.why


def test_one_that_arrived_is_not_left(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: FakeService
) -> None:
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 0
    assert service.outcomes() == [{"state": "succeeded", "error": None}]
    assert not left(tmp_path)


def test_another_version_of_the_service_fails_the_run_in_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, service: FakeService
) -> None:
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ADADIM_VERSION", "99.0")
    assert main(arguments) == 1
    (outcome,) = service.outcomes()
    assert outcome["state"] == "failed"
    assert "install adadim[workers]==99.0 on every node of the cluster" in outcome["error"]
