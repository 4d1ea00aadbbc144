"""Kubernetes Engine: clusters and operations. ``nodepools.py`` has the pools.

gcloud still calls some methods by their old ``projects.zones.*`` names; ``LEGACY`` maps them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from sandbox.gcp import catalog
from sandbox.gcp.api import Call, handles
from sandbox.gcp.container_shape import (
    resource_path,
)
from sandbox.gcp.errors import (
    cluster_being_created,
    cluster_busy,
    container_forbidden,
    container_not_found,
    failed_precondition,
    invalid_argument,
)
from sandbox.gcp.nodes import pool_nodes

Json = dict[str, Any]

BASE = "container.projects.locations"
LEGACY = {
    "clusters.resourceLabels": "clusters.setResourceLabels",
    "clusters.nodePools.autoscaling": "clusters.nodePools.setAutoscaling",
    "getServerconfig": "getServerConfig",
}


def modern(method: str) -> str:
    """``...projects.zones.clusters.resourceLabels`` -> ``...projects.locations.clusters.setResourceLabels``."""
    rest = method.removeprefix("container.projects.zones.")
    return method if rest == method else f"{BASE}.{LEGACY.get(rest, rest)}"


@dataclass(frozen=True)
class Target:
    """What a request is about, from a resource name or from the old path parameters."""

    project: str
    location: str
    cluster: str = ""
    pool: str = ""
    operation: str = ""

    @property
    def key(self) -> str:
        return f"{self.project}/{self.location}/{self.cluster}"

    @property
    def path(self) -> str:
        return resource_path(self.project, self.location, self.cluster, self.pool)


def target(call: Call) -> Target:
    """The target of a call; the project is ours (the emulator checked), by id."""
    params = call.params
    name = params.get("name") or params.get("parent")
    if name is None:
        return Target(call.world.project, params["zone"], params.get("clusterId", ""), params.get("nodePoolId", ""),
                      params.get("operationId", ""))  # fmt: skip
    parts = name.split("/")
    found = dict(zip(parts[0::2], parts[1::2], strict=False))
    return Target(call.world.project, found.get("locations", ""), found.get("clusters", ""), found.get("nodePools", ""),
                  found.get("operations", ""))  # fmt: skip


def need(call: Call, permission: str, at: Target) -> None:
    """ApiError 403 in GKE's words."""
    if not call.allowed(permission):
        raise container_forbidden(permission, at.path if at.cluster else f"projects/{at.project}")


def cluster_of(call: Call, at: Target) -> Json:
    """The live cluster. ApiError 404."""
    cluster = call.world.clusters.get(at.key)
    if cluster is None:
        raise container_not_found(resource_path(at.project, at.location, at.cluster))
    return cluster


def check_idle(call: Call, at: Target, *, deleting: bool = False) -> None:
    """One operation at a time. ApiError with GKE's text for a busy cluster."""
    if call.world.faults.busy(at.cluster):
        raise cluster_busy("operation-1700000000000-00000000-0000-4000-8000-000000000000")
    running = call.operations.busy(at.key)
    if running is None:
        return
    if running.body["operationType"] == "CREATE_CLUSTER" and not deleting:
        raise cluster_being_created()
    raise cluster_busy(running.name)


def shown(call: Call, cluster: Json) -> Json:
    """A copy of a cluster with the counts of the moment."""
    with call.world.lock:
        answer = copy.deepcopy(cluster)
        count = len(pool_nodes(call.world, cluster))
    if count:
        answer["currentNodeCount"] = count
    else:
        answer.pop("currentNodeCount", None)
    return answer


@handles(f"{BASE}.getServerConfig")
def server_config(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.list", at)
    check_location(at)
    planted = call.world.faults.named("gke-version")
    versions = [str(spec["version"]) for spec in planted] or [catalog.GKE_VERSION, *catalog.GKE_OLDER_VERSIONS]
    channels = [
        {"channel": channel, "defaultVersion": versions[0], "validVersions": versions}
        for channel in ("RAPID", "REGULAR", "STABLE")
    ]
    return {
        "defaultClusterVersion": versions[0],
        "validMasterVersions": versions,
        "validNodeVersions": versions,
        "defaultImageType": "COS_CONTAINERD",
        "validImageTypes": ["COS_CONTAINERD", "UBUNTU_CONTAINERD"],
        "channels": channels,
    }


def check_location(at: Target) -> None:
    if at.location not in catalog.ZONES and at.location not in catalog.REGIONS:
        raise invalid_argument(f'Location "{at.location}" does not exist.')


@handles(f"{BASE}.clusters.list")
def list_clusters(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.list", at)
    if at.location != "-":
        check_location(at)
    with call.world.lock:
        chosen = [cluster for cluster in call.world.clusters.values() if at.location in ("-", cluster["location"])]
        clusters = [shown(call, cluster) for cluster in chosen]
    return {"clusters": clusters} if clusters else {}


@handles(f"{BASE}.clusters.get")
def get_cluster(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.get", at)
    return shown(call, cluster_of(call, at))


def operation_target(call: Call, link: str) -> str:
    """Operations name the project by number."""
    return link.replace(f"/projects/{call.world.project}/", f"/projects/{call.world.number}/")


# --- operations --------------------------------------------------------------------------------------------------


@handles(f"{BASE}.operations.get")
def get_operation(call: Call) -> Json:
    at = target(call)
    need(call, "container.operations.get", at)
    found = call.operations.find("container", at.operation)
    if found is None or found.body["location"] != at.location:
        raise container_not_found(f"projects/{at.project}/zones/{at.location}/operations/{at.operation}")
    return call.operations.snapshot(found)


@handles(f"{BASE}.operations.cancel")
def cancel_operation(call: Call) -> Json:
    """Work on pools can be called off, the making and the end of a cluster cannot."""
    at = target(call)
    need(call, "container.clusters.update", at)
    found = call.operations.find("container", at.operation)
    if found is None or found.body["location"] != at.location:
        raise container_not_found(f"projects/{at.project}/zones/{at.location}/operations/{at.operation}")
    if found.done.is_set():
        raise failed_precondition(f"Operation {found.name} is already done.")
    if found.body["operationType"] in ("CREATE_CLUSTER", "DELETE_CLUSTER", "DELETE_NODE_POOL"):
        raise failed_precondition(f"Operation {found.name} of type {found.body['operationType']} cannot be cancelled.")
    call.operations.cancel(found)
    return {}


@handles(f"{BASE}.operations.list")
def list_operations(call: Call) -> Json:
    at = target(call)
    need(call, "container.operations.list", at)
    found = [op for op in call.operations.list("container") if at.location in ("-", op.body["location"])]
    return {"operations": [call.operations.snapshot(op) for op in found]} if found else {}
