"""The manifests in deploy/kubernetes agree with each other, with the settings, with Ray and with the documentation."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from adadim_core.version import VERSION
from service.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SECRET_KEYS = {"postgres_password": "a" * 32, "ray_auth_token": "b" * 64}
PORTS = {"postgres": 5432, "adadim": 8080}


def documents() -> list[dict[str, Any]]:
    files = sorted(FOLDER.glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in documents() if document["kind"] == kind}


def pod_templates() -> dict[str, dict[str, Any]]:
    ray = of_kind("RayCluster")["ray"]["spec"]
    groups = {group["groupName"]: group["template"] for group in ray["workerGroupSpecs"]}
    sets = {name: document["spec"]["template"] for name, document in of_kind("StatefulSet").items()}
    return {**sets, "head": ray["headGroupSpec"]["template"], **groups}


def containers() -> list[dict[str, Any]]:
    return [container for template in pod_templates().values() for container in template["spec"]["containers"]]


def environment(entries: list[dict[str, Any]]) -> dict[str, str]:
    """The variables as Kubernetes sets them: from secrets, and with earlier ones filled in."""
    values: dict[str, str] = {}
    for entry in entries:
        if "valueFrom" in entry:
            secret = entry["valueFrom"]["secretKeyRef"]
            assert secret["name"] == "adadim"
            values[entry["name"]] = SECRET_KEYS[secret["key"]]
        else:
            values[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], entry["value"])
    return values


def test_kustomization_names_every_file_and_the_present_version() -> None:
    (kustomization,) = [d for d in documents() if d["kind"] == "Kustomization"]
    assert set(kustomization["resources"]) == {f.name for f in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert {image["newTag"] for image in kustomization["images"]} == {VERSION}
    own = {container["image"] for container in containers()} - {"postgres:18"}
    assert own == {image["name"] for image in kustomization["images"]}
    assert of_kind("RayCluster")["ray"]["spec"]["rayVersion"] == version("ray")


def test_the_service_starts_with_its_environment_and_the_secret_is_the_documented_one() -> None:
    (service,) = pod_templates()["adadim"]["spec"]["containers"]
    values = environment(service["env"])
    settings = Settings.from_environ(values)
    assert settings.database_url == f"postgresql://adadim:{SECRET_KEYS['postgres_password']}@postgres:5432/adadim"
    assert settings.ray_auth_token == SECRET_KEYS["ray_auth_token"]
    assert settings.ray_address == "http://ray-head-svc:8265"  # as KubeRay names the service of a cluster's head
    assert settings.public_url == f"http://{next(iter(of_kind('PodDisruptionBudget')))}:8080"
    documented = re.findall(r"--from-literal=(\w+)=", (ROOT / "docs" / "deployment.md").read_text())
    assert set(documented) == set(SECRET_KEYS)


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_paths_that_there_are(probe: str) -> None:
    from service.app import create_app

    (service,) = pod_templates()["adadim"]["spec"]["containers"]
    asked = service[probe]["httpGet"]
    assert asked["port"] == service["ports"][0]["containerPort"]
    assert asked["path"] in create_app(Settings.from_environ({}), "http://adadim:8080").openapi()["paths"]


def test_ray_nodes_start_with_options_ray_has_and_with_the_token() -> None:
    ray = of_kind("RayCluster")["ray"]["spec"]
    ray_command = Path(sys.executable).with_name("ray")
    known = set(re.findall(r"--[a-z-]+", subprocess.check_output([ray_command, "start", "--help"], text=True)))
    for group in (ray["headGroupSpec"], *ray["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= known
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        expected = {
            "ADADIM_CLUSTER_SCALES": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": SECRET_KEYS["ray_auth_token"],
        }
        assert environment(container["env"]) == environment(ray["autoscalerOptions"]["env"]) == expected
    assert ray["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_selectors_find_pods_and_mounts_find_volumes() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pod_templates().items() if name in PORTS}
    for name, port in PORTS.items():
        service = of_kind("Service")[name]["spec"]
        assert service["selector"] == of_kind("StatefulSet")[name]["spec"]["selector"]["matchLabels"] == labels[name]
        assert [entry["port"] for entry in service["ports"]] == [port]
        assert pod_templates()[name]["spec"]["containers"][0]["ports"] == [{"containerPort": port}]
    for name, document in of_kind("NetworkPolicy").items():
        selected = document["spec"]["podSelector"]["matchLabels"]
        assert selected == ({"ray.io/cluster": "ray"} if name == "ray" else labels[name])
    sets = of_kind("StatefulSet")
    for name, template in pod_templates().items():
        claims = {
            claim["metadata"]["name"] for claim in sets.get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", [])
        }
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for volume in volumes.values():
            assert volume["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim")
        mounted = {mount["name"] for container in template["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounted == claims | set(volumes)


def test_no_pod_has_more_rights_than_it_needs() -> None:
    for name, template in pod_templates().items():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        if name != "head":  # the autoscaler beside it asks Kubernetes for nodes
            assert template["spec"]["automountServiceAccountToken"] is False
    for container in containers():
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
