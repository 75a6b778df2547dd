"""The Kubernetes manifests, without a cluster: they are whole, they fit each other, and they fit the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from django.conf import settings

from gateway.data_plane_urls import urlpatterns
from tests.deploy.manifests import (
    API_OF,
    CONTAINER,
    KUBERNETES,
    POD,
    PROBE,
    SPEC_OF,
    Manifest,
    containers,
    documents,
    everything,
    members,
    named,
    of_kind,
    pods,
    settings_names,
)
from tests.engines import ROOT

NAMESPACE = "platform-services"
PORT = 5005
PRE_STOP_SECONDS, STREAM_SECONDS, LEDGER_SECONDS = 10, 310, 15
OF_CELERY = {"REMAP_SIGTERM"}
TEMPLATES = dict(pods())


def test_every_object_is_whole() -> None:
    seen = set()
    for found in everything():
        kind, metadata = found["kind"], found["metadata"]
        assert found["apiVersion"] == API_OF[kind]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
        if kind != "Namespace":
            assert metadata["namespace"] == NAMESPACE
        if kind in SPEC_OF:
            members(found["spec"], SPEC_OF[kind], where=f"{kind} {metadata['name']}")
        seen.add((kind, metadata["name"]))
    assert len(seen) == len(everything()), "two of one name"
    assert {kind for kind, _ in seen} == set(API_OF)


def test_kustomize_has_all_but_the_optional_ingress() -> None:
    (found,) = documents(KUBERNETES / "kustomization.yaml")
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "ingress.yaml"}
    assert set(found["resources"]) == files and found["namespace"] == NAMESPACE


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_pod_is_whole_and_may_do_little(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    members(spec, POD, where=name)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert named("ServiceAccount", spec["serviceAccountName"])
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in containers(TEMPLATES[name]):
        members(container, CONTAINER, where=f"{name} {container['name']}")
        assert container["image"] == "ghcr.io/openova-io/llm-gateway:v1"
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        for amount in (*container["resources"]["requests"].values(), *container["resources"]["limits"].values()):
            assert re.fullmatch(r"\d+(m|Mi|Gi)", amount)


def test_the_web_pod_is_as_the_spec_has_it() -> None:
    (container,) = TEMPLATES["llm-gateway"]["spec"]["containers"]
    assert container["name"] == "llm-gateway"
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    assert container["resources"] == {
        "requests": {"memory": "512Mi", "cpu": "250m"}, "limits": {"memory": "1Gi", "cpu": "500m"},
    }  # fmt: skip
    assert settings.PORT == PORT


def test_selectors_find_their_pods() -> None:
    labels = {name: template["metadata"]["labels"] for name, template in TEMPLATES.items()}

    def found_by(selector: dict[str, str]) -> set[str]:
        return {name for name, found in labels.items() if selector.items() <= found.items()}

    for deployment in of_kind("Deployment"):
        name = deployment["metadata"]["name"]
        assert found_by(deployment["spec"]["selector"]["matchLabels"]) == {name}
        spread = TEMPLATES[name]["spec"].get("topologySpreadConstraints", ())
        assert all(found_by(rule["labelSelector"]["matchLabels"]) == {name} for rule in spread)
    web = {"llm-gateway"}
    assert found_by(named("Service", "llm-gateway")["spec"]["selector"]) == web
    assert found_by(named("PodDisruptionBudget", "llm-gateway")["spec"]["selector"]["matchLabels"]) == web
    assert found_by(named("NetworkPolicy", "llm-gateway-callers")["spec"]["podSelector"]["matchLabels"]) == web
    assert found_by(named("NetworkPolicy", "llm-gateway")["spec"]["podSelector"]["matchLabels"]) == set(labels)


def test_what_leads_to_the_web_pods_leads_to_their_port() -> None:
    (port,) = named("Service", "llm-gateway")["spec"]["ports"]
    assert port == {"name": "http", "port": PORT, "targetPort": "http"}
    (rule,) = named("NetworkPolicy", "llm-gateway-callers")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": PORT}]
    (host,) = named("Ingress", "llm-gateway")["spec"]["rules"]
    (path,) = host["http"]["paths"]
    assert path["backend"]["service"] == {"name": "llm-gateway", "port": {"name": "http"}}
    assert host["host"] in named("ConfigMap", "llm-gateway")["data"]["PUBLIC_URL"]
    scaled = named("HorizontalPodAutoscaler", "llm-gateway")["spec"]
    assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm-gateway"}
    assert 1 < scaled["minReplicas"] < scaled["maxReplicas"]
    assert "replicas" not in named("Deployment", "llm-gateway")["spec"], "it would undo what the autoscaler did"


def test_every_variable_is_one_that_the_settings_read() -> None:
    data = named("ConfigMap", "llm-gateway")["data"]
    assert all(isinstance(value, str) for value in data.values())
    given = set(data)
    for template in TEMPLATES.values():
        for container in containers(template):
            assert container["envFrom"] == [{"configMapRef": {"name": "llm-gateway"}}]
            given |= {entry["name"] for entry in container.get("env", ())}
    assert given - OF_CELERY <= settings_names()


def test_secrets_are_files_that_are_mounted_and_documented() -> None:
    data = named("ConfigMap", "llm-gateway")["data"]
    files = {name.removesuffix("_FILE"): path for name, path in data.items() if name.endswith("_FILE")}
    assert {"SECRET_KEY", "API_KEY_PEPPER", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL"} <= set(files)
    assert not set(files) & set(data), "a secret in a ConfigMap"
    page = (ROOT / "docs/how-to/deploy.md").read_text()
    for name, path in files.items():
        assert path == f"/run/secrets/bursar/{name}"
        assert f"--from-literal={name}=" in page
    for template in TEMPLATES.values():
        (volume,) = (volume for volume in template["spec"]["volumes"] if volume["name"] == "secrets")
        assert volume["secret"] == {"secretName": "llm-gateway", "defaultMode": 0o440}
        for container in containers(template):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts == {"secrets": "/run/secrets/bursar", "data": data["DATA_DIR"], "tmp": "/tmp"}


def test_probes_ask_what_there_is() -> None:
    (container,) = TEMPLATES["llm-gateway"]["spec"]["containers"]
    paths = {f"/{pattern.pattern}" for pattern in urlpatterns}
    asked = {}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        members(container[kind], PROBE, where=kind)
        asked[kind] = container[kind]["httpGet"]["path"]
        assert container[kind]["httpGet"]["port"] == "http"
    assert set(asked.values()) <= paths
    assert asked == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}


def test_a_pod_may_drain_before_it_is_killed() -> None:
    spec = TEMPLATES["llm-gateway"]["spec"]
    (container,) = spec["containers"]
    assert container["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_SECONDS)]}}}
    drain = STREAM_SECONDS + settings.DRAIN_SHUTDOWN_SECONDS + LEDGER_SECONDS
    assert spec["terminationGracePeriodSeconds"] > PRE_STOP_SECONDS + drain


def test_nothing_starts_before_its_migrations() -> None:
    for deployment in of_kind("Deployment"):
        (waits,) = deployment["spec"]["template"]["spec"]["initContainers"]
        assert waits["command"] == ["python", "manage.py", "check_schema", "--wait", "600"]
    (job,) = of_kind("Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "manage.py", "migrate", "--noinput"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_there_is_one_beat_and_never_two() -> None:
    spec = named("Deployment", "llm-gateway-beat")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    web = named("Deployment", "llm-gateway")["spec"]["strategy"]
    assert web["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_what_a_cluster_would_refuse_is_found() -> None:
    """The control: this schema knows a wrong manifest."""
    text = (KUBERNETES / "web.yaml").read_text()

    def first(wrong: str) -> Manifest:
        found: Any = next(iter(yaml.safe_load_all(wrong)))
        return dict(found)

    misspelt = first(text.replace("serviceAccountName:", "serviceAccount:"))
    with pytest.raises(AssertionError, match="serviceAccount"):
        members(misspelt["spec"]["template"]["spec"], POD, where="web")
    missing = first(text.replace("  selector:\n    matchLabels", "  elector:\n    matchLabels", 1))
    with pytest.raises(AssertionError, match="elector"):
        members(missing["spec"], SPEC_OF["Deployment"], where="web")
