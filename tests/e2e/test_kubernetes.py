"""The chart: what it renders is valid Kubernetes, agrees with the settings, with Ray and with the documentation.

Helm's own library renders and lints it. Kinds that are not Kubernetes' (Ray, the Prometheus operator) have no schema
here: of theirs the pods are validated, and the fields are those of the reference.
"""

import copy
import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from adadim_core.version import VERSION
from service.settings import Settings, variables

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel here")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

from helm_python.chart import Chart, lint  # noqa: E402 - what may not be here is asked for first

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
PROFILES = {"default": {}} | {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "profiles").glob("*.yaml"))
}
SECRET_KEYS = {
    "admin_token": "adadim_" + "t" * 43,
    "postgres_password": "a@/%" + "a" * 28,
    "ray_auth_token": "b" * 64,
    "database_url": "postgresql://user@db.example.org/adadim",
    "prometheus_token": "adadim_" + "p" * 43,
}
POD_KINDS = ("StatefulSet", "RayCluster", "RayJob")
RAY_FIELDS = {
    "cluster": {
        "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "upgradeStrategy", "headGroupSpec",
        "workerGroupSpecs", "authOptions",
    },
    "autoscalerOptions": {"idleTimeoutSeconds", "env", "resources", "securityContext", "volumeMounts"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}  # fmt: skip


@cache
def _rendered(profile: str) -> list[dict[str, Any]]:
    with Chart.load(CHART) as chart:
        files = chart.render(PROFILES[profile], name="adadim", namespace="adadim")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def rendered(profile: str = "default") -> list[dict[str, Any]]:
    return copy.deepcopy(_rendered(profile))


def of_kind(kind: str, profile: str = "default") -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in rendered(profile) if document["kind"] == kind}


def pods_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod specs in a document, by what they are."""
    if document["kind"] == "StatefulSet":
        return {document["metadata"]["name"]: document["spec"]["template"]["spec"]}
    cluster = document["spec"].get("rayClusterSpec", document["spec"])
    groups = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **groups}


def pods(profile: str = "default") -> dict[str, dict[str, Any]]:
    return {name: pod for d in rendered(profile) if d["kind"] in POD_KINDS for name, pod in pods_of(d).items()}


def ray_job() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "rayjob.yaml").read_text())
    return next(document for document in documents if document["kind"] == "RayJob")


def environment(entries: list[dict[str, Any]]) -> dict[str, str]:
    """The variables as Kubernetes sets them."""
    values: dict[str, str] = {}
    for entry in entries:
        if "valueFrom" in entry:
            secret = entry["valueFrom"]["secretKeyRef"]
            assert secret["name"] == "adadim"
            values[entry["name"]] = SECRET_KEYS[secret["key"]]
        else:
            values[entry["name"]] = entry["value"]
    return values


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_lints_and_is_valid_kubernetes(profile: str) -> None:
    report = lint(CHART, PROFILES[profile], strict=True, namespace="adadim")
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []
    kinds = set()
    for document in rendered(profile):
        kinds.add(document["kind"])
        if "." not in document["apiVersion"] or document["apiVersion"].split("/")[0].endswith(("k8s.io", "apps")):
            kubernetes_validate.validate(document, "1.36", strict=True)
    assert {"Service", "StatefulSet", "RayCluster", "NetworkPolicy", "PodDisruptionBudget", "Namespace"} <= kinds
    for name, spec in pods(profile).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubernetes_validate.validate(pod, "1.36", strict=True)


def test_the_validator_would_notice_a_misspelt_field() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pods()["adadim"]}
    pod["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.36", strict=True)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"service": {"replicas": 0}}, "replicas"),
        ({"service": {"setings": {}}}, "setings"),
        ({"service": {"settings": {"ADADIM_SLOT": "8"}}}, "ADADIM_SLOT"),
        ({"service": {"settings": {"ADADIM_SLOTS": 8}}}, "ADADIM_SLOTS"),
        ({"storage": {"bucket": "http://my-bucket"}}, "bucket"),
        ({"storage": {"claim": ""}}, "storage"),
        ({"storage": {"nfs": {"server": "a"}, "claim": ""}}, "storage"),
        ({"ray": {"workers": {"maxReplicas": 0}}}, "maxReplicas"),
        ({"ray": {"gpuWorkers": {"enabled": True, "gpus": "one"}}}, "gpus"),
        ({"postgres": {"storage": "much"}}, "storage"),
        ({"ingress": {"enabled": True, "host": "https://adadim"}}, "host"),
        ({"monitoring": {"enabled": "yes"}}, "enabled"),
    ],
)
def test_bad_values_are_refused_and_named(values: dict[str, Any], told: str) -> None:
    with Chart.load(CHART) as chart, pytest.raises(helm.HelmError, match=told):
        chart.validate_schema(values)


def test_the_chart_is_of_the_present_version_and_says_what_a_value_may_be() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == VERSION
    images = {container["image"] for pod in pods("gpu").values() for container in pod["containers"]}
    assert images == {
        "postgres:18", f"adadim-service:{VERSION}", f"adadim-ray:{VERSION}-cpu", f"adadim-ray:{VERSION}-cuda",
    }  # fmt: skip
    assert of_kind("RayCluster")["adadim-ray"]["spec"]["rayVersion"] == version("ray")
    assert ray_job()["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")

    def same(values: Any, schema: dict[str, Any], path: str) -> None:
        if isinstance(values, dict) and "properties" in schema:
            assert values.keys() == schema["properties"].keys() - {"global"} or path.endswith("workers"), path
            for key, value in values.items():
                same(value, schema["properties"][key], f"{path}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    same(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "values")
    settings = schema["properties"]["service"]["properties"]["settings"]["propertyNames"]["pattern"]
    (service,) = pods()["adadim"]["containers"]
    made = {entry["name"] for entry in service["env"]} | {"ADADIM_HOST", "ADADIM_PORT", "ADADIM_RAY_NUM_CPUS"}
    made |= {"ADADIM_JOB_KEY"}  # a secret; without one jobs show the Ray cluster's token, which its nodes have
    for name in variables().keys() - {"DATABASE_URL", "RAY_ADDRESS", "RAY_AUTH_TOKEN"}:
        assert bool(re.match(settings, name)) != (name in made - {"ADADIM_DRAIN_S"}), name


@pytest.mark.parametrize("profile", PROFILES)
def test_the_service_starts_with_its_environment(profile: str) -> None:
    (service,) = pods(profile)["adadim"]["containers"]
    (migrate,) = pods(profile)["adadim"]["initContainers"]
    values = environment(service["env"])
    settings = Settings.from_environ(values)
    if profile == "external-database":
        assert settings.database_url == SECRET_KEYS["database_url"]
    else:
        assert settings.database_url == "postgresql://adadim@adadim-postgres:5432/adadim"
        assert values["PGPASSWORD"] == SECRET_KEYS["postgres_password"]
        assert of_kind("Service", profile)["adadim-postgres"]["spec"]["ports"][0]["port"] == 5432
    assert settings.ray_auth_token == SECRET_KEYS["ray_auth_token"]
    # As KubeRay names the service of a cluster's head.
    assert settings.ray_address == "http://adadim-ray-head-svc.adadim-ray:8265"
    assert settings.public_url == "http://adadim.adadim:8080"
    assert settings.allowed_hosts == ("adadim.example.org" if profile == "ingress" else None)
    assert settings.storage == ("s3://my-bucket/adadim" if profile == "bucket" else "/storage")
    assert migrate["command"] == ["adadim", "migrate"]
    assert Settings.from_environ(environment(migrate["env"])).database_url == settings.database_url


def test_the_documented_secrets_are_those_that_are_read() -> None:
    documentation = (ROOT / "docs" / "deployment.md").read_text()
    documented = set(re.findall(r"--from-literal=(\w+)=", documentation))
    read = set()
    for profile in PROFILES:
        read |= set(re.findall(r"'key': '(\w+)'", str([d for d in rendered(profile) if d["kind"] != "NetworkPolicy"])))
    assert read == set(SECRET_KEYS)
    assert {"admin_token", "postgres_password", "ray_auth_token"} <= documented
    assert all(key in documentation for key in read)


def test_only_rays_own_secret_is_in_the_namespace_where_experiments_run() -> None:
    (cluster,) = of_kind("RayCluster").values()
    assert cluster["metadata"]["namespace"] == "adadim-ray"
    assert set(re.findall(r"'secretKeyRef': {'name': 'adadim', 'key': '(\w+)'", str(cluster))) == {"ray_auth_token"}
    for document in rendered():
        if document["kind"] == "StatefulSet":
            assert document["metadata"].get("namespace", "adadim") == "adadim"


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_paths_that_there_are(probe: str) -> None:
    from service.app import create_app

    (service,) = pods()["adadim"]["containers"]
    asked = service[probe]["httpGet"]
    assert asked["port"] == service["ports"][0]["name"]
    assert asked["path"] in create_app(Settings.from_environ({}), "http://adadim:8080").openapi()["paths"]


@pytest.mark.slow
def test_ray_nodes_start_with_options_ray_has_and_with_the_token() -> None:
    ray_command = Path(sys.executable).with_name("ray")
    known = set(re.findall(r"--[a-z-]+", subprocess.check_output([ray_command, "start", "--help"], text=True)))
    cluster = of_kind("RayCluster", "gpu")["adadim-ray"]["spec"]
    expected = {
        "ADADIM_CLUSTER_SCALES": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": SECRET_KEYS["ray_auth_token"],
    }
    assert environment(cluster["autoscalerOptions"]["env"]) == expected
    for spec in (cluster, ray_job()["spec"]["rayClusterSpec"]):
        assert spec.keys() <= RAY_FIELDS["cluster"]
        assert spec.get("autoscalerOptions", {}).keys() <= RAY_FIELDS["autoscalerOptions"]
        assert spec["headGroupSpec"].keys() <= RAY_FIELDS["headGroupSpec"]
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert group.keys() <= RAY_FIELDS["workerGroupSpecs"]
            assert {f"--{name}" for name in group["rayStartParams"]} <= known
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert environment(container["env"]) == expected
    # The autoscaler's number of workers is its own: applying the chart again leaves it.
    assert all("replicas" not in group for group in cluster["workerGroupSpecs"])
    assert cluster["upgradeStrategy"] == {"type": "Recreate"}
    (gpu,) = pods("gpu")["gpu-workers"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_run_without_the_service_names_a_spec_that_is_valid() -> None:
    from adadim_core.spec import parse_spec

    job = ray_job()
    (pod,) = [pod for name, pod in pods_of(job).items() if name == "head"]
    documents = yaml.safe_load_all((ROOT / "deploy" / "rayjob.yaml").read_text())
    (config,) = [document for document in documents if document["kind"] == "ConfigMap"]
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert job["spec"]["entrypoint"].split()[3] == "/spec/spec.yaml"
    assert parse_spec(config["data"]["spec.yaml"]).search is not None
    kubernetes_validate.validate(config, "1.36", strict=True)
    for name, spec in pods_of(job).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubernetes_validate.validate(pod, "1.36", strict=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_selectors_find_pods_and_mounts_find_volumes(profile: str) -> None:
    sets = of_kind("StatefulSet", profile)
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in sets.values()]
    for document in sets.values():
        assert document["spec"]["serviceName"] in of_kind("Service", profile)
        assert (
            document["spec"]["selector"]["matchLabels"].items()
            <= document["spec"]["template"]["metadata"]["labels"].items()
        )
    for service in of_kind("Service", profile).values():
        assert any(service["spec"]["selector"].items() <= found.items() for found in labels)
    policies = of_kind("NetworkPolicy", profile)
    for policy in policies.values():
        selected = policy["spec"]["podSelector"].get("matchLabels", {})
        if policy["metadata"].get("namespace") == "adadim-ray":
            assert selected.get("ray.io/cluster", "adadim-ray") in of_kind("RayCluster", profile)
        else:
            assert any(selected.items() <= found.items() for found in labels)
    claims = of_kind("PersistentVolumeClaim", profile).keys() | {"adadim-storage"}
    for name, pod in pods(profile).items():
        made = {c["metadata"]["name"] for c in sets.get(name, {"spec": {}})["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {"claimName": "adadim-storage"})["claimName"] in claims
        used = [mount for c in [*pod["containers"], *pod.get("initContainers", [])] for mount in c["volumeMounts"]]
        kept = {"account"} & volumes.keys()  # the autoscaler's
        assert {mount["name"] for mount in used} | kept == made | volumes.keys()
        assert any(volume.get("emptyDir", {}).get("medium") == "Memory" for volume in volumes.values()) == (
            name != "adadim"
        )


def test_both_namespaces_see_the_same_files_on_a_server() -> None:
    volumes = of_kind("PersistentVolume", "nfs").values()
    assert {v["spec"]["claimRef"]["namespace"] for v in volumes} == {"adadim", "adadim-ray"}
    assert {(v["spec"]["nfs"]["server"], v["spec"]["nfs"]["path"]) for v in volumes} == {
        ("nfs.example.org", "/export/adadim")
    }
    assert not of_kind("PersistentVolume")
    assert not of_kind("PersistentVolumeClaim", "bucket")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_pod_has_more_rights_than_it_needs(profile: str) -> None:
    """What Kubernetes' restricted policy asks for, and no token of an account in a container that runs others' code."""
    every = [*pods(profile).values(), *pods_of(ray_job()).values()]
    for pod in every:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert "account" not in {mount["name"] for mount in container.get("volumeMounts", [])}
    for pod in pods(profile).values():
        assert pod["terminationGracePeriodSeconds"] == 60
        assert all("livenessProbe" in container for container in pod["containers"])


@pytest.mark.parametrize("profile", PROFILES)
def test_the_network_is_closed_but_for_what_each_part_needs(profile: str) -> None:
    policies = of_kind("NetworkPolicy", profile)
    for name in ("adadim-deny", "adadim-ray-deny"):
        spec = policies[name]["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in spec
        assert "egress" not in spec
    postgres = policies.get("adadim-postgres")
    assert (postgres is None) == (profile == "external-database")
    if postgres is not None:
        assert "egress" not in postgres["spec"]  # which the denying one ends
    ports = {port["port"] for rule in policies["adadim"]["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 8265, 5432} | ({443} if profile == "bucket" else set())
    callers = policies["adadim"]["spec"]["ingress"][0]["from"]
    extra = {"ingress": ["ingress-nginx"], "monitoring": ["monitoring"]}.get(profile, [])
    named = [caller["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for caller in callers]
    assert named == ["adadim-ray", *extra]


def test_streams_pass_the_ingress_and_each_replica_is_scraped() -> None:
    (ingress,) = of_kind("Ingress", "ingress").values()
    assert ingress["spec"]["tls"] == [{"hosts": ["adadim.example.org"], "secretName": "adadim-tls"}]
    annotations = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert annotations["proxy-buffering"] == "off"
    assert int(annotations["proxy-read-timeout"]) >= 600
    (monitor,) = of_kind("ServiceMonitor", "monitoring").values()
    selected = monitor["spec"]["selector"]["matchLabels"]
    scraped = [
        s for s in of_kind("Service", "monitoring").values() if selected.items() <= s["metadata"]["labels"].items()
    ]
    assert [service["spec"]["clusterIP"] for service in scraped] == ["None"]
    (rule,) = of_kind("PrometheusRule", "monitoring").values()
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yml").read_text())
