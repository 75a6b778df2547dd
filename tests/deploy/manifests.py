"""The files of deploy/, read, and what a cluster would want of them: a hand-kept part of Kubernetes' schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.engines import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"

Manifest = dict[str, Any]

API_OF = {
    "Namespace": "v1", "ConfigMap": "v1", "ServiceAccount": "v1", "Service": "v1", "Deployment": "apps/v1",
    "Job": "batch/v1", "HorizontalPodAutoscaler": "autoscaling/v2", "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1", "Ingress": "networking.k8s.io/v1",
}  # fmt: skip

SPEC_OF: dict[str, tuple[set[str], set[str]]] = {
    "Deployment": ({"selector", "template"}, {"replicas", "strategy"}),
    "Job": ({"template"}, {"backoffLimit", "ttlSecondsAfterFinished"}),
    "Service": ({"selector", "ports"}, set()),
    "HorizontalPodAutoscaler": ({"scaleTargetRef", "maxReplicas"}, {"minReplicas", "metrics", "behavior"}),
    "PodDisruptionBudget": ({"selector"}, {"maxUnavailable", "minAvailable"}),
    "NetworkPolicy": ({"podSelector", "policyTypes"}, {"ingress", "egress"}),
    "Ingress": ({"rules"}, {"ingressClassName", "tls"}),
}
"""By kind, what `spec` must have and what else it may have."""

POD = (
    {"containers", "securityContext", "volumes", "serviceAccountName", "automountServiceAccountToken"},
    {"initContainers", "terminationGracePeriodSeconds", "restartPolicy", "topologySpreadConstraints"},
)
CONTAINER = (
    {"name", "image", "resources", "envFrom", "securityContext", "volumeMounts"},
    {"command", "env", "ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"},
)
PROBE = ({"httpGet"}, {"periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"})


def members(found: Manifest, required_and_other: tuple[set[str], set[str]], *, where: str) -> None:
    """What is required is there, and nothing that is not known."""
    required, other = required_and_other
    assert required <= set(found) <= required | other, f"{where}: {sorted(set(found) ^ required)}"


def documents(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def everything() -> list[Manifest]:
    """All objects, those of the ingress that nobody has to use as well."""
    paths = sorted(KUBERNETES.glob("*.yaml"))
    return [found for path in paths if path.name != "kustomization.yaml" for found in documents(path)]


def of_kind(*kinds: str) -> list[Manifest]:
    return [found for found in everything() if found["kind"] in kinds]


def named(kind: str, name: str) -> Manifest:
    (found,) = (manifest for manifest in of_kind(kind) if manifest["metadata"]["name"] == name)
    return found


def pods() -> Iterator[tuple[str, Manifest]]:
    """The name and the template of everything that runs pods."""
    for manifest in of_kind("Deployment", "Job"):
        yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def settings_names() -> set[str]:
    """Every variable that the settings read, and as a file."""
    tree = ast.parse((ROOT / "gateway/settings.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    read = {
        call.args[0].value
        for call in calls
        if call.func.id in ("_text", "_number", "_list") and isinstance(call.args[0], ast.Constant)
    }
    return {str(name) for name in read} | {f"{name}_FILE" for name in read}


def compose() -> Manifest:
    found: Manifest = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def dockerfile() -> list[tuple[str, str]]:
    """Instruction and rest of each line, continuations joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(" ", 1)[0], " ".join(line.split(" ", 1)[1].split())) for line in lines if line.strip()]
