"""Kubernetes Engine: creating, changing and deleting clusters."""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any

from sandbox.gcp import catalog
from sandbox.gcp.api import Call, handles
from sandbox.gcp.container import (
    BASE,
    Target,
    check_idle,
    check_location,
    cluster_of,
    need,
    operation_target,
    target,
)
from sandbox.gcp.container_checks import (
    check_authorized_networks,
    check_cluster,
    check_maintenance,
    check_pools,
    check_upgrade_path,
    version_of,
)
from sandbox.gcp.container_shape import (
    STANDARD,
    control_plane_ready,
    gateway_channel,
    label_fingerprint,
    maintenance,
    new_cluster,
    new_etag,
    new_pool,
)
from sandbox.gcp.errors import container_exists, failed_precondition, invalid_argument, service_forbidden
from sandbox.gcp.nodes import node_tag, pool_nodes, settle_pool
from sandbox.gcp.operations import OperationFailed, attempt

Json = dict[str, Any]

# --- create ------------------------------------------------------------------------------------------------------


@handles(f"{BASE}.clusters.create")
def create_cluster(call: Call) -> Json:
    """Check everything that can be checked, then start the control plane and the nodes in an operation."""
    world = call.world
    body: Json = call.body.get("cluster") or {}
    parent = target(call)
    at = Target(world.project, parent.location, str(body.get("name", "")))
    need(call, "container.clusters.create", parent)
    check_location(parent)
    check_cluster(world, at.location, body)
    if at.key in world.clusters:
        raise container_exists(at.path)
    if not call.allowed("iam.serviceAccounts.actAs"):
        raise service_forbidden(
            'The user does not have access to service account "default". Ask a project owner to grant you the '
            "iam.serviceAccountUser role on the service account."
        )
    version = version_of(body.get("initialClusterVersion", ""))
    pools = body.get("nodePools") or [
        {
            "name": "default-pool",
            "initialNodeCount": body.get("initialNodeCount", 0),
            "config": body.get("nodeConfig", {}),
        }
    ]
    created = datetime.datetime.fromtimestamp(world.clock(), datetime.UTC).isoformat(timespec="seconds")
    cluster = new_cluster(world, at.location, body, created)
    # Pools without GPUs first: the GPU taint depends on whether there are others.
    for pool in sorted(pools, key=lambda item: bool(item.get("config", {}).get("accelerators"))):
        cluster["nodePools"].append(new_pool(world, cluster, pool, version))
    cluster["nodePools"].sort(key=lambda item: [pool["name"] for pool in pools].index(item["name"]))
    check_pools(world, cluster, cluster["nodePools"])
    with world.mutate():
        if at.key in world.clusters:
            raise container_exists(at.path)
        world.clusters[at.key] = cluster
        for pool in cluster["nodePools"]:
            call.emulator.fleet.add_groups(cluster, pool)
        _add_network_parts(call, cluster)
    return call.operations.container(
        at.location, "CREATE_CLUSTER", operation_target(call, cluster["selfLink"]), event="cluster-create", key=at.key,
        method=f"{BASE}.clusters.create", work=lambda: _create(call, at.key, cluster, version),
        finish=lambda failure: _created(call, cluster, failure),
    )  # fmt: skip


def _create(call: Call, key: str, cluster: Json, version: str) -> None:
    emulator = call.emulator
    endpoint = emulator.backend.create_cluster(key, version=version, gateway_api=gateway_channel(cluster) == STANDARD)
    with call.world.mutate():
        control_plane_ready(cluster, endpoint, version)
        _add_pod_range(call, cluster)
    failures = emulator.in_parallel(
        [functools.partial(_first_nodes, call, key, cluster, pool) for pool in cluster["nodePools"]]
    )
    for failure in failures:
        if failure is not None:
            raise failure


def _first_nodes(call: Call, key: str, cluster: Json, pool: Json) -> OperationFailed | None:
    failure = attempt(
        lambda: call.emulator.fleet.resize(key, cluster, pool, pool["initialNodeCount"], "cluster-create")
    )
    with call.world.mutate():
        settle_pool(call.world, cluster, pool, failure)
    return failure


def _created(call: Call, cluster: Json, failure: OperationFailed | None) -> None:
    cluster["etag"] = new_etag()
    cluster["status"] = "RUNNING" if failure is None else "ERROR"
    if failure is not None:
        cluster["statusMessage"] = failure.message
        cluster["conditions"] = [{"message": failure.message, "canonicalCode": "INTERNAL"}]
        if failure.extra.get("condition"):
            cluster["conditions"][0] |= {"code": failure.extra["condition"], "canonicalCode": "RESOURCE_EXHAUSTED"}
        for pool in cluster["nodePools"]:
            if pool["status"] == "PROVISIONING":
                settle_pool(call.world, cluster, pool, failure)


def _firewalls(cluster: Json) -> list[Json]:
    base = f"gke-{cluster['name']}-{cluster['id'][:8]}"
    tag = node_tag(cluster)
    tcp, any_of = [{"IPProtocol": "tcp", "ports": ["10255"]}], [{"IPProtocol": p} for p in ("tcp", "udp", "icmp")]
    rules: list[Json] = [
        {"name": f"{base}-vms", "sourceRanges": [catalog.AUTO_RANGE], "allowed": any_of, "priority": 1000},
        {"name": f"{base}-inkubelet", "sourceTags": [tag], "allowed": tcp, "priority": 999},
        {"name": f"{base}-exkubelet", "sourceRanges": ["0.0.0.0/0"], "denied": tcp, "priority": 1000},
    ]
    return [{**rule, "targetTags": [tag]} for rule in rules]


def _add_network_parts(call: Call, cluster: Json) -> None:
    network = call.world.compute.link("networks", "global", cluster["network"])
    for rule in _firewalls(cluster):
        call.world.compute.insert("firewalls", "global", {"network": network, "direction": "INGRESS", **rule})


def _add_pod_range(call: Call, cluster: Json) -> None:
    """GKE notes the pods' range as a secondary range of the subnet."""
    ranges = _secondary_ranges(call, cluster)
    own = {
        "rangeName": cluster["ipAllocationPolicy"]["clusterSecondaryRangeName"],
        "ipCidrRange": cluster["clusterIpv4Cidr"],
    }
    _set_secondary_ranges(call, cluster, [*ranges, own])


def _secondary_ranges(call: Call, cluster: Json) -> list[Json]:
    """Ranges of the cluster's subnet other than its own."""
    subnet = call.world.compute.get(
        "subnetworks", f"regions/{catalog.region_of(cluster['location'])}", cluster["subnetwork"]
    )
    own = cluster["ipAllocationPolicy"]["clusterSecondaryRangeName"]
    return [one for one in (subnet or {}).get("secondaryIpRanges", []) if one["rangeName"] != own]


def _set_secondary_ranges(call: Call, cluster: Json, ranges: list[Json]) -> None:
    scope = f"regions/{catalog.region_of(cluster['location'])}"
    if call.world.compute.get("subnetworks", scope, cluster["subnetwork"]) is not None:
        call.world.compute.patch("subnetworks", scope, cluster["subnetwork"], {"secondaryIpRanges": ranges or None})


# --- update and delete -------------------------------------------------------------------------------------------

_COMPANIONS = {"desiredNodePoolId", "desiredNodeVersion", "desiredImageType", "etag"}


@handles(f"{BASE}.clusters.update")
def update_cluster(call: Call) -> Json:
    """One change a call, as the API wants it."""
    at = target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    update: Json = call.body.get("update") or {}
    fields = [name for name in update if name not in _COMPANIONS] or [name for name in update if name != "etag"]
    if not fields:
        raise invalid_argument("Must specify a field to update.")
    if len(fields) > 1 and not set(fields) <= _COMPANIONS:
        raise invalid_argument("Only one update can be applied to a cluster with each request.")
    check_authorized_networks(update.get("desiredMasterAuthorizedNetworksConfig", {}))
    if "desiredMasterVersion" in update:
        check_upgrade_path(cluster["currentMasterVersion"], version_of(update["desiredMasterVersion"]))
    check_idle(call, at)
    channel = update.get("desiredGatewayApiConfig", {}).get("channel")

    def work() -> None:
        if channel is not None:
            call.emulator.backend.set_gateway_api(at.key, channel == STANDARD)

    def finish(failure: OperationFailed | None) -> None:
        if failure is None:
            for name, value in update.items():
                _apply_update(cluster, name, value, update)
        cluster["status"], cluster["etag"] = "RUNNING", new_etag()

    return _change(call, at, cluster, "UPDATE_CLUSTER", "clusters.update", work, finish)


def _change(call: Call, at: Target, cluster: Json, kind: str, method: str, work: Any, finish: Any) -> Json:
    with call.world.mutate():
        cluster["status"] = "RECONCILING"
    return call.operations.container(
        at.location, kind, operation_target(call, cluster["selfLink"]), event="cluster-update", key=at.key,
        method=f"{BASE}.{method}", work=work, finish=finish,
    )  # fmt: skip


def _apply_update(cluster: Json, name: str, value: Any, update: Json) -> None:
    if name == "desiredGatewayApiConfig":
        cluster.setdefault("networkConfig", {})["gatewayApiConfig"] = value
    elif name == "desiredNodePoolAutoscaling":
        for pool in cluster["nodePools"]:
            if pool["name"] == update.get("desiredNodePoolId", pool["name"]):
                pool["autoscaling"] = value
    elif name == "desiredMasterAuthorizedNetworksConfig":
        cluster["masterAuthorizedNetworksConfig"] = value  # replaced as a whole
    elif name == "desiredDefaultEnablePrivateNodes":
        cluster["networkConfig"]["defaultEnablePrivateNodes"] = value
    elif name == "desiredMasterVersion":
        cluster["currentMasterVersion"] = version_of(value)
    elif name == "desiredNodeVersion":
        cluster["currentNodeVersion"] = version_of(value)
    elif name.startswith("desired") and name not in _COMPANIONS:
        field = name.removeprefix("desired")
        field = field[0].lower() + field[1:]
        old = cluster.get(field)
        cluster[field] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value


def _merged(old: Json, new: Json) -> Json:
    """Fields that an update does not name stay."""
    result = dict(old)
    for key, value in new.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


@handles(f"{BASE}.clusters.setResourceLabels")
def set_labels(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    if call.body.get("labelFingerprint") != cluster["labelFingerprint"]:
        raise failed_precondition("Labels could not be set due to fingerprint mismatch.")
    labels = dict(call.body.get("resourceLabels", {}))
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise invalid_argument(f'Invalid field "resource_labels": label "{key}: {value}" is invalid.')
    check_idle(call, at)

    def finish(failure: OperationFailed | None) -> None:
        if failure is None:
            cluster["resourceLabels"] = labels
            cluster["labelFingerprint"] = label_fingerprint(labels)
        cluster["status"], cluster["etag"] = "RUNNING", new_etag()

    return _change(call, at, cluster, "UPDATE_CLUSTER", "clusters.setResourceLabels", lambda: None, finish)


@handles(f"{BASE}.clusters.setMaintenancePolicy")
def set_maintenance(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    policy = dict(call.body.get("maintenancePolicy") or {})
    check_maintenance(policy)
    sent, current = policy.get("resourceVersion"), cluster["maintenancePolicy"]["resourceVersion"]
    if sent and sent != current:
        raise failed_precondition("Maintenance policy could not be set: its resource version is not the current one.")
    check_idle(call, at)

    def finish(failure: OperationFailed | None) -> None:
        if failure is None:
            maintenance(cluster, policy)
        cluster["status"], cluster["etag"] = "RUNNING", new_etag()

    return _change(call, at, cluster, "SET_MAINTENANCE_POLICY", "clusters.setMaintenancePolicy", lambda: None, finish)


@handles(f"{BASE}.clusters.delete")
def delete_cluster(call: Call) -> Json:
    """Nodes, groups, firewall rules and ranges go with it; what load balancers left behind does not."""
    world, at = call.world, target(call)
    need(call, "container.clusters.delete", at)
    cluster = cluster_of(call, at)
    check_idle(call, at, deleting=True)

    def work() -> None:
        call.emulator.backend.delete_cluster(at.key)
        with world.mutate():
            for instance in pool_nodes(world, cluster):
                call.emulator.fleet.forget(instance)
            for pool in cluster["nodePools"]:
                call.emulator.fleet.remove_groups(cluster, pool)
            for rule in _firewalls(cluster):
                world.compute.delete("firewalls", "global", rule["name"])
            _set_secondary_ranges(call, cluster, _secondary_ranges(call, cluster))

    def finish(failure: OperationFailed | None) -> None:
        if failure is None:
            world.clusters.pop(at.key, None)
        else:
            cluster["status"], cluster["statusMessage"] = "ERROR", failure.message

    with world.mutate():
        cluster["status"] = "STOPPING"
    return call.operations.container(
        at.location, "DELETE_CLUSTER", operation_target(call, cluster["selfLink"]), event="cluster-delete", key=at.key,
        method=f"{BASE}.clusters.delete", work=work, finish=finish,
    )  # fmt: skip
