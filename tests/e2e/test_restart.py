"""The service ends, politely or not, while a sweep runs: nothing is lost, nothing is left behind."""

import itertools
import signal
from contextlib import suppress

import psutil
import pytest

from adadim.client import Client
from tests.e2e.conftest import ServiceProcess, run_service, series, sweep, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]

EPOCHS = 6
ONE_AT_A_TIME = "resources: {max_concurrent_trials: 1}\n"


def _some_progress(client: Client, experiment_id: int, points: int = 5) -> bool:
    curves = series(client, experiment_id, "h_r")
    return any(len(curve["steps"]) >= points for curve in curves.values())


def _assert_complete(client: Client, experiment_id: int, epochs: int = EPOCHS) -> None:
    """Every trial reached its last step, and no point is missing or doubled."""
    assert [trial["epoch"] for trial in client.trials(experiment_id)] == [epochs] * 4
    curves = series(client, experiment_id, "h_r")
    assert sorted(curves) == [0, 1, 2, 3]
    expected = curves[0]["steps"]
    for curve in curves.values():
        assert curve["steps"] == expected
    gaps = {after - before for before, after in itertools.pairwise(expected)}
    assert max(gaps) <= 2, "a point at least every log_every_steps"


def _is_handed_over(service: ServiceProcess, client: Client, experiment_id: int) -> bool:
    """Ray has a job of it: its driver is there, or was."""
    for driver in service.drivers():
        with suppress(psutil.Error):
            if driver.environ().get("ADADIM_RUN_STORAGE", "").endswith(f"-{experiment_id}"):
                return True
    return client.experiment(experiment_id)["state"] in ("running", "succeeded")


def _wait_for_success(client: Client, experiment_id: int) -> dict[str, object]:
    return wait_for(
        lambda: (e := client.experiment(experiment_id))["state"] in ("succeeded", "failed") and e,
        timeout_s=600,
        what="the sweep's end",
    )


def test_sigterm_leaves_nothing_behind_and_a_restart_takes_up_what_ran(own_service: ServiceProcess) -> None:
    client = own_service._connect()
    assert client is not None
    experiment_id = client.submit(sweep(EPOCHS) + ONE_AT_A_TIME)["id"]
    wait_for(lambda: _some_progress(client, experiment_id), timeout_s=400, what="first points")

    assert len(own_service.processes()) > 10  # PostgreSQL, Ray's own, driver, trial actors
    assert own_service.stop(signal.SIGTERM) == 0
    wait_for(lambda: not own_service.processes(), timeout_s=120, what="nothing left")

    client = own_service.start()
    ended = _wait_for_success(client, experiment_id)
    assert ended["state"] == "succeeded", ended["state_reason"]
    assert ended["attempt"] == 2
    _assert_complete(client, experiment_id)


@pytest.mark.parametrize(
    "epochs_of", [(40, 2), pytest.param((60, 2, 2, 2), marks=pytest.mark.slow)], ids=["two sweeps", "four sweeps"]
)
def test_a_killed_service_does_not_stop_training_and_its_successor_has_every_point(
    tmp_path_factory: pytest.TempPathFactory, epochs_of: tuple[int, ...]
) -> None:
    """Sweeps run in every slot and another experiment is being handed over when the only replica is killed.

    The first sweep holds both cores until all of them have come and the service has gone.
    """
    for own_service in run_service(tmp_path_factory, ADADIM_SLOTS=str(len(epochs_of))):
        _kill_and_go_on(own_service, epochs_of)


def _kill_and_go_on(own_service: ServiceProcess, epochs_of: tuple[int, ...]) -> None:
    client = own_service._connect()
    assert client is not None
    sweeps = [client.submit(sweep(epochs_of[0]))["id"]]
    wait_for(lambda: _some_progress(client, sweeps[0], points=2), timeout_s=400, what="first points")
    sweeps += [client.submit(sweep(epochs) + ONE_AT_A_TIME)["id"] for epochs in epochs_of[1:]]
    for experiment_id in sweeps:
        wait_for(lambda i=experiment_id: client.experiment(i)["state"] == "running", timeout_s=400, what="all sweeps")
    drivers = own_service.drivers()
    assert len(drivers) == len(sweeps)

    client.pause(sweeps[-1])  # makes room for one more, at no particular moment
    late = client.submit(sweep(epochs=2).partition("search:")[0])["id"]  # a single run
    own_service.stop(signal.SIGKILL)
    assert sum(driver.is_running() for driver in drivers) >= len(sweeps) - 1, "training goes on"
    client = own_service.start()
    wait_for(lambda: _is_handed_over(own_service, client, late), timeout_s=300, what="dispatch goes on")
    wait_for(lambda: client.experiment(sweeps[-1])["state"] in ("paused", "succeeded"), timeout_s=300, what="the pause")
    client.resume(sweeps[-1])
    for experiment_id in [*sweeps, late]:
        ended = _wait_for_success(client, experiment_id)
        assert ended["state"] == "succeeded", ended["state_reason"]
        assert ended["attempt"] == 1 or experiment_id in (sweeps[-1], late), "the same attempt finished it"
    for experiment_id, epochs in zip(sweeps, epochs_of, strict=True):
        _assert_complete(client, experiment_id, epochs)
    assert own_service.stop() == 0
    gone = psutil.wait_procs(own_service.processes(), timeout=120)[1]
    assert gone == []
