"""The files under deploy/monitoring: they parse, belong together, and ask for metrics that the service has."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from service_harness import Running

from service.health import storage

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = ROOT / "deploy" / "chart" / "files" / "alerts.yml"
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def expressions() -> list[str]:
    """Every query of the dashboard, its variables' too."""
    dashboard = json.loads((MONITORING / "grafana" / "dashboards" / "adadim.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [variable["query"]["query"] for variable in dashboard["templating"]["list"]]


async def test_every_metric_of_the_dashboard_is_exported(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_PATIENCE_S", 60.0)  # a storage that is slow to answer has no room to export
    exposition = (await service.http.get("/metrics")).text
    exported = {
        family.name + suffix
        for family in text_string_to_metric_families(exposition)
        for suffix in SUFFIXES.get(family.type, [])
    }
    asked = {name for expression in expressions() for name in re.findall(r"adadim_\w+", expression)}
    assert len(asked) > 10
    alerts = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    alerted = {name for alert in alerts for name in re.findall(r"\badadim_\w+", alert["expr"])}
    assert len(alerted) > 5
    assert asked | alerted <= exported
    assert {"adadim_trial_h_r", "adadim_trial_i_rz", "adadim_trial_alpha", "adadim_trial_loss"} <= asked


async def test_labels_the_dashboard_groups_by_exist(service: Running) -> None:
    await service.submit()
    await service.http.get("/api/v1/experiments/4711")
    await service.http.get("/api/v1/experiments", headers={"Authorization": "Bearer no"})
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families((await service.http.get("/metrics")).text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    checked = 0
    for expression in expressions():
        grouped = re.findall(r"by \(([a-z, ]+)\)", expression)
        for name in re.findall(r"adadim_\w+", expression):
            if grouped and name in labels:
                checked += 1
                assert set(grouped[0].split(", ")) <= labels[name], expression
    assert checked >= 5


def test_panels_use_the_provisioned_source_and_do_not_overlap() -> None:
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    (source,) = provisioned["datasources"]
    panels = json.loads((MONITORING / "grafana" / "dashboards" / "adadim.json").read_text())["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_compose_has_monitoring_as_a_profile_and_every_file_it_mounts() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services: dict[str, Any] = compose["services"]
    assert {name for name, part in services.items() if part.get("profiles") == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    for name in ("prometheus", "grafana"):
        part = services[name]
        assert all(port.startswith("127.0.0.1:") for port in part["ports"])
        for volume in part["volumes"]:
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"], volume

    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    (secret,) = services["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    # The token is the user's own: named, and never part of the repository.
    token = compose["secrets"][secret]["file"].removeprefix("./")
    assert token in (ROOT / ".gitignore").read_text().split()
    (target,) = job["static_configs"][0]["targets"]
    assert target.partition(":")[0] in services


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here (Debian: prometheus)")
def test_alerts_say_what_they_should_when_they_should(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "alerts_test.yml").read_text().replace("RULES", str(ALERTS))
    (tmp_path / "alerts_test.yml").write_text(cases)
    ran = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tested = {case["alertname"] for test in yaml.safe_load(cases)["tests"] for case in test["alert_rule_test"]}
    assert tested == {rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}


def test_every_alert_is_explained() -> None:
    explained = (ROOT / "docs" / "operations.md").read_text()
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert re.search(rf"^\|[^|]*\b{rule['alert']}\b[^|]*\|", explained, re.MULTILINE), rule["alert"]
