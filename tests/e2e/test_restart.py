"""The service ends, politely or not, while a sweep runs: nothing is lost, nothing is left behind."""

import itertools
import signal

import psutil
import pytest

from service.client import Client
from tests.e2e.conftest import ServiceProcess, series, sweep, wait_for

pytestmark = pytest.mark.ray

EPOCHS = 30


def _some_progress(client: Client, experiment_id: int) -> bool:
    curves = series(client, experiment_id, "h_r")
    return any(len(curve["steps"]) >= 5 for curve in curves.values())


def _assert_complete(client: Client, experiment_id: int) -> None:
    """Every trial reached its last step, and no point is missing or doubled."""
    assert [trial["epoch"] for trial in client.trials(experiment_id)] == [EPOCHS] * 4
    curves = series(client, experiment_id, "h_r")
    assert sorted(curves) == [0, 1, 2, 3]
    expected = curves[0]["steps"]
    for curve in curves.values():
        assert curve["steps"] == expected
    gaps = {after - before for before, after in itertools.pairwise(expected)}
    assert max(gaps) <= 2, "a point at least every log_every_steps"


def _wait_for_success(client: Client, experiment_id: int) -> dict[str, object]:
    return wait_for(
        lambda: (e := client.experiment(experiment_id))["state"] in ("succeeded", "failed") and e,
        timeout_s=150,
        what="the sweep's end",
    )


def test_sigterm_leaves_nothing_behind_and_a_restart_takes_up_what_ran(own_service: ServiceProcess) -> None:
    client = own_service._connect()
    assert client is not None
    experiment_id = client.submit(sweep(EPOCHS))["id"]
    wait_for(lambda: _some_progress(client, experiment_id), timeout_s=60, what="first points")

    assert len(own_service.processes()) > 10  # PostgreSQL, Ray's own, driver, trial actors
    assert own_service.stop(signal.SIGTERM) == 0
    assert own_service.processes() == []

    client = own_service.start()
    ended = _wait_for_success(client, experiment_id)
    assert ended["state"] == "succeeded", ended["state_reason"]
    assert ended["attempt"] == 2
    _assert_complete(client, experiment_id)


def test_a_killed_service_does_not_stop_training_and_its_successor_has_every_point(own_service: ServiceProcess) -> None:
    client = own_service._connect()
    assert client is not None
    experiment_id = client.submit(sweep(EPOCHS))["id"]
    wait_for(lambda: _some_progress(client, experiment_id), timeout_s=60, what="first points")
    drivers = own_service.drivers()
    assert drivers

    own_service.stop(signal.SIGKILL)
    assert all(driver.is_running() for driver in drivers), "training goes on"
    client = own_service.start()
    ended = _wait_for_success(client, experiment_id)
    assert ended["state"] == "succeeded", ended["state_reason"]
    assert ended["attempt"] == 1, "the same attempt finished it"
    _assert_complete(client, experiment_id)
    assert own_service.stop() == 0
    gone = psutil.wait_procs(own_service.processes(), timeout=10)[1]
    assert gone == []
