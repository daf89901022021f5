"""One sweep from REST to the last point: real HTTP, PostgreSQL, Ray, training."""

import json
import shutil
import subprocess
import threading
from contextlib import suppress

import httpx
import psutil
import pytest

from adadim.client import Client
from service.cluster.local import open_to_others
from tests.e2e.conftest import ServiceProcess, series, sweep, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


def test_a_sweep_goes_from_rest_to_the_last_point_on_loopback_only(service: ServiceProcess, client: Client) -> None:
    experiment = client.submit(sweep(epochs=3))
    experiment_id = experiment["id"]
    events = []

    def follow() -> None:
        ended = False
        for event in client.events(experiment_id):
            events.append(event)
            # An event tells the state at which it is read: points from before may be yet to come.
            ended |= event.kind == "experiment" and event.data["state"] == "succeeded"
            if ended and event.id >= client.metrics(experiment_id, ["h_r"], max_points=10)["seq"]:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    followed: list[str] = []
    reader = threading.Thread(target=lambda: followed.extend(client.logs(experiment_id, follow=True)), daemon=True)
    reader.start()
    listened = wait_for(
        lambda: client.experiment(experiment_id)["trials_done"] and listening(service),
        timeout_s=400,
        what="a trial's end, beside which others run",
    )
    ended = wait_for(
        lambda: (e := client.experiment(experiment_id))["state"] in ("succeeded", "failed") and e,
        timeout_s=400,
        what="the sweep's end",
    )
    assert ended["state"] == "succeeded", "".join(client.logs(experiment_id))
    assert (ended["trials_done"], ended["trial_count"]) == (4, 4)

    assert {address for _, address in listened} == {"127.0.0.1"}
    assert {"gcs_server", "raylet"} <= {name for name, _ in listened}
    assert open_to_others(service.state_dir) == []

    trials = client.trials(experiment_id)
    assert [trial["state"] for trial in trials] == ["succeeded"] * 4
    assert all(trial["epoch"] == trial["epochs"] == 3 for trial in trials)
    assert {trial["params"]["objective.weighting"]["policy"] for trial in trials} == {"fixed", "adaptive"}
    best = max(trials, key=lambda trial: (trial["latest"]["knn_top1"], -trial["number"]))
    assert (ended["best_trial"], ended["best_value"]) == (best["number"], best["latest"]["knn_top1"])

    last_step = {trial: part["steps"][-1] for trial, part in series(client, experiment_id, "loss").items()}
    for metric in ("h_r", "i_rz", "alpha"):
        curves = series(client, experiment_id, metric)
        assert sorted(curves) == [0, 1, 2, 3]
        for trial, curve in curves.items():
            assert curve["steps"] == sorted(set(curve["steps"])), "steps are unique and in order"
            assert curve["steps"][-1] == last_step[trial]
            assert curve["total"] == len(curve["steps"])
    assert set(series(client, experiment_id, "alpha")[1]["values"]) == {0.5}

    follower.join(timeout=120)
    assert not follower.is_alive(), "the live stream told of the end"
    assert [event.id for event in events] == sorted({event.id for event in events})
    live = {
        (part["trial"], step)
        for event in events if event.kind == "points"
        for part in event.data["series"] if part["metric"] == "h_r"
        for step in part["steps"]
    }  # fmt: skip
    stored = {(trial, step) for trial, curve in series(client, experiment_id, "h_r").items() for step in curve["steps"]}
    assert live == stored, "a follower sees every point that is stored"
    reader.join(timeout=120)
    assert not reader.is_alive(), "the log's stream ended with the experiment"
    log = "".join(client.logs(experiment_id))
    assert "k-NN" in log
    assert "".join(followed) == log, "a follower reads what is kept, without a gap or a repeat"
    for trial in trials:
        lines = "".join(client.trial_logs(trial["id"])).splitlines()
        epochs = [line for line in lines if "/3 " in line]
        assert [f"epoch {k}/3 " in line for k, line in enumerate(epochs, 1)] == [True] * 3, lines


def listening(service: ServiceProcess) -> set[tuple[str, str]]:
    """Names of the service's processes, Ray's and those of jobs included, and the addresses they listen on."""
    found = set()
    for process in service.processes():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((process.name(), connection.laddr.ip.removeprefix("::ffff:")))
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, which CI installs")
def test_curl_alone_submits_follows_and_reads(service: ServiceProcess, client: Client) -> None:
    def curl(*arguments: str) -> str:
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--fail-with-body",
            "-H",
            f"Authorization: Bearer {service.token}",
        ]
        return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=90).stdout

    api = f"{client.url}/api/v1/experiments"
    spec = service.state_dir / "curl.yaml"
    spec.write_text(sweep(epochs=2).partition("search:")[0])  # a single run
    submitted = json.loads(curl("--data-binary", f"@{spec}", "-H", "Content-Type: application/yaml", api))
    stream = subprocess.Popen(
        [
            "curl",
            "--silent",
            "--no-buffer",
            "-H",
            f"Authorization: Bearer {service.token}",
            f"{api}/{submitted['id']}/events",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stream.stdout is not None
        lines = []
        for line in stream.stdout:
            lines.append(line)
            if line.startswith("data:") and '"state":"succeeded"' in line and '"trial_count"' in line:
                break
    finally:
        stream.kill()
        stream.wait()
    assert any(line == "event: points\n" for line in lines)
    assert any(line.startswith("id: ") for line in lines)
    metrics = json.loads(curl(f"{api}/{submitted['id']}/metrics?metrics=h_r,i_rz&max_points=100"))
    assert {part["metric"] for part in metrics["series"]} == {"h_r", "i_rz"}


@pytest.mark.slow
def test_prometheus_shows_running_trials_and_cancel_ends_them(service: ServiceProcess, client: Client) -> None:
    experiment_id = client.submit(sweep(epochs=5000))["id"]

    def scrape() -> str:
        return httpx.get(f"{client.url}/metrics", headers={"Authorization": f"Bearer {service.token}"}).text

    gauge = f'adadim_trial_h_r{{experiment="{experiment_id}",trial="0"}}'
    wait_for(lambda: gauge in scrape(), timeout_s=400, what="H(R) of the running trial in /metrics")
    assert f'adadim_trial_i_rz{{experiment="{experiment_id}",trial="0"}}' in scrape()

    assert client.cancel(experiment_id)["state"] == "cancelling"
    wait_for(lambda: client.experiment(experiment_id)["state"] == "cancelled", timeout_s=300, what="cancelled")
    assert gauge not in scrape()
    assert {trial["state"] for trial in client.trials(experiment_id)} == {"stopped"}
    wait_for(lambda: not service.drivers(), timeout_s=300, what="no job left on Ray")
