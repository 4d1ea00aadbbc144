# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster half of an observation: what is read, and where it goes. Values of Secrets are never kept."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import scorers_from_log
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import newest_first
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import (
    AUTOSCALER,
    BACKEND_POLICY,
    CRD,
    EVENT,
    GATEWAY,
    GATEWAY_CLASS,
    HEALTH_CHECK_POLICY,
    HTTP_ROUTE,
    INFERENCE_POOL,
    NAMESPACE,
    NODE,
    POD,
    ROUTING_EXTENSION,
    SECRET,
    SERVICE,
    WORKLOADS,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import crashed_container, is_ready
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import pod_labels_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Json, Observation, Scope, Server

LOG_TAIL = 200
LOG_LIMIT = 4 * 1024 * 1024


def first_reads(client: KubeClient, scope: Scope) -> dict[str, Callable[[], Any]]:
    """What can be asked at once, by the name of the field of ``Cluster`` that it fills."""
    space = scope.namespace

    def gateway_class() -> Json:
        gateway = client.get(GATEWAY, scope.gateway, space) or {}
        name = str((gateway.get("spec") or {}).get("gatewayClassName") or "")
        return (client.get(GATEWAY_CLASS, name) if name else None) or {}

    reads: dict[str, Callable[[], Any]] = {
        "namespace": lambda: client.get(NAMESPACE, space) or {},
        "nodes": lambda: client.objects(NODE),
        "pods": lambda: client.objects(POD, space),
        "events": lambda: newest_first(client.objects(EVENT, space)),
        "workloads": lambda: _workloads(client, space),
        "services": lambda: client.objects(SERVICE, space),
        "secret_keys": lambda: secret_keys(client, scope),
        "releases": lambda: releases(client, scope),
        "crds": lambda: {name: client.get(CRD, name) or {} for name in scope.crds},
        "gateway": lambda: client.get(GATEWAY, scope.gateway, space) or {},
        "gateway_class": gateway_class,
        "routes": lambda: client.objects(HTTP_ROUTE, space),
        "pools": lambda: client.objects(INFERENCE_POOL, space),
        "health_policies": lambda: client.objects(HEALTH_CHECK_POLICY, space),
        "backend_policies": lambda: client.objects(BACKEND_POLICY, space),
        "autoscalers": lambda: client.objects(AUTOSCALER, space),
    }
    if scope.body_router:
        reads["routing_extension"] = lambda: client.get(ROUTING_EXTENSION, scope.body_router, space) or {}
    return reads


def _workloads(client: KubeClient, namespace: str) -> list[Json]:
    found: list[Json] = []
    for kind in WORKLOADS:
        found += [{**item, "kind": kind.kind} for item in client.objects(kind, namespace)]
    return found


def secret_keys(client: KubeClient, scope: Scope) -> list[str] | None:
    """The keys of the Hugging Face Secret, None where there is no such Secret. Its values are dropped here."""
    secret = client.get(SECRET, scope.secret, scope.namespace) if scope.secret else {}
    return None if secret is None else sorted(secret.get("data") or {})


def releases(client: KubeClient, scope: Scope) -> list[Json]:
    """The newest revision of each helm release of the namespace: name, status, revision, and why it failed."""
    newest: dict[str, Json] = {}
    for item in client.labels_of(SECRET, scope.namespace, labels="owner=helm"):
        metadata = item.get("metadata") or {}
        labels = metadata.get("labels") or {}
        name, revision = str(labels.get("name")), int(labels.get("version") or 0)
        if name not in newest or newest[name]["revision"] < revision:
            newest[name] = {
                "name": name,
                "revision": revision,
                "status": str(labels.get("status")),
                "secret": str(metadata.get("name")),
                "description": "",
            }
    for release in newest.values():
        if release["status"] == "failed":
            record = client.get(SECRET, release["secret"], scope.namespace) or {}
            release["description"] = failure_of(record)
    return sorted(newest.values(), key=lambda release: str(release["name"]))


def failure_of(record: Json) -> str:
    """``info.description`` of helm's own record (base64 twice, gzip, JSON); "" where it cannot be read."""
    try:
        packed = base64.b64decode(base64.b64decode((record.get("data") or {})["release"]))
        text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        return str((json.loads(text).get("info") or {}).get("description") or "")
    except (KeyError, ValueError, OSError, EOFError, binascii.Error, AttributeError):
        return ""


def second_reads(client: KubeClient, seen: Observation) -> dict[str, Callable[[], Any]]:
    """Logs of crashed containers, metrics of ready pods, the picker's scorers: by kind and pod ("log/NAME")."""
    reads: dict[str, Callable[[], Any]] = {}
    space = seen.scope.namespace
    for pod in seen.cluster.pods or []:
        name = str(pod["metadata"]["name"])
        crashed = crashed_container(pod)
        if crashed is not None:
            reads[f"log/{name}"] = _log_read(client, name, space, crashed)
        elif is_ready(pod):
            port = metrics_port(pod, seen)
            if port:
                reads[f"metrics/{name}"] = _metrics_read(client, name, space, port)
            if is_picker(pod, seen.scope):
                reads[f"scorers/{name}"] = _scorers_read(client, name, space)
    if any(_wants_gpu(pod) and not (pod.get("spec") or {}).get("nodeName") for pod in seen.cluster.pods or []):
        reads["foreign_gpu_pods"] = lambda: foreign_gpu_pods(client, space)
    return reads


def _log_read(client: KubeClient, name: str, namespace: str, crashed: Json) -> Callable[[], str]:
    """The last words of a container that died: of this run if it just ended, of the one before if it runs again."""
    container = str(crashed.get("name"))
    previous = not (crashed.get("state") or {}).get("terminated") and int(crashed.get("restartCount") or 0) > 0

    def read() -> str:
        text = client.logs(name, namespace, container=container, previous=previous, tail=LOG_TAIL)
        return text or client.logs(name, namespace, container=container, tail=LOG_TAIL)

    return read


def _metrics_read(client: KubeClient, name: str, namespace: str, port: int) -> Callable[[], str]:
    return lambda: client.pod_get(name, namespace, port, "metrics")


def _scorers_read(client: KubeClient, name: str, namespace: str) -> Callable[[], dict[str, float]]:
    return lambda: scorers_from_log(client.logs(name, namespace, limit=LOG_LIMIT))


def foreign_gpu_pods(client: KubeClient, namespace: str) -> list[str]:
    """Pods of other namespaces that hold a GPU."""
    running = client.objects(POD, fields="status.phase=Running")
    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in running
        if _wants_gpu(pod) and pod["metadata"]["namespace"] != namespace
    ]


def _wants_gpu(pod: Json) -> bool:
    containers = (pod.get("spec") or {}).get("containers") or []
    return any("nvidia.com/gpu" in ((entry.get("resources") or {}).get("limits") or {}) for entry in containers)


def is_picker(pod: Json, scope: Scope) -> bool:
    """Whether a pod is of one of the deployment's endpoint pickers."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return labels.get(scope.picker_label) in {f"{server.pool}-epp" for server in scope.served}


def is_body_router(pod: Json, scope: Scope) -> bool:
    """Whether a pod is of the server that reads models' names out of bodies."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return bool(scope.body_router) and labels.get("app") == scope.body_router


def pool_of(seen: Observation, name: str) -> Json:
    """The InferencePool of that name, {} where it is missing or was not read."""
    named = [pool for pool in seen.cluster.pools or [] if pool["metadata"]["name"] == name]
    return named[0] if named else {}


def selected(pool: Json, labels: Mapping[str, Any]) -> bool:
    """Whether a pool takes pods with these labels; one that is not there takes none."""
    wanted = ((pool.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def server_of(labels: Mapping[str, Any], seen: Observation) -> Server | None:
    """The model server whose pool takes pods with these labels."""
    return next((server for server in seen.scope.served if selected(pool_of(seen, server.pool), labels)), None)


def autoscaler_of(server: Server, seen: Observation) -> Json | None:
    """The autoscaler (KEDA makes one too) of a model server's Deployment."""
    for item in seen.cluster.autoscalers or []:
        target = str(((item.get("spec") or {}).get("scaleTargetRef") or {}).get("name"))
        for workload in seen.cluster.workloads or []:
            if workload["metadata"]["name"] == target and server_of(pod_labels_of(workload), seen) == server:
                return item
    return None


def is_model_server(pod: Json, seen: Observation) -> bool:
    """Whether a pool of the deployment takes the pod (without a pool: whether it wants a GPU)."""
    if is_picker(pod, seen.scope):
        return False
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return server_of(labels, seen) is not None or _wants_gpu(pod)


def container_ports(pod: Json) -> list[Json]:
    """Every port that the pod's containers declare."""
    containers = (pod.get("spec") or {}).get("containers") or []
    return [port for container in containers for port in container.get("ports") or []]


def metrics_port(pod: Json, seen: Observation) -> int:
    """Where a pod's metrics are, from what the pod itself declares: a port named metrics, else its serving port."""
    ports = container_ports(pod)
    named = next((port for port in ports if port.get("name") == "metrics"), None)
    if named is not None:
        return int(named["containerPort"])
    if is_picker(pod, seen.scope) or not is_model_server(pod, seen):
        return 0
    return int(ports[0]["containerPort"]) if ports else 0
