"""Kubernetes Engine: node pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.gcp.api import Call, handles
from sandbox.gcp.catalog import region_of
from sandbox.gcp.container import Target, check_idle, cluster_of, need, operation_target, target
from sandbox.gcp.container_checks import (
    check_autoscaling,
    check_machine,
    check_name,
    check_pools,
    check_quota,
    check_upgrade,
    check_zones,
    version_of,
)
from sandbox.gcp.container_shape import location_policy, new_etag, new_pool, resource_path
from sandbox.gcp.errors import ApiError, container_exists, failed_precondition, invalid_argument
from sandbox.gcp.nodes import foreseen, pool_nodes, settle_pool, usage
from sandbox.gcp.operations import OperationFailed

Json = dict[str, Any]

_POOLS = "container.projects.locations.clusters.nodePools"


def pool_of(cluster: Json, at: Target) -> Json:
    """The live pool. ApiError 404."""
    for pool in cluster["nodePools"]:
        if pool["name"] == at.pool:
            return pool  # type: ignore[no-any-return]
    raise ApiError(404, f'Not found: node pool "{at.pool}" not found.', "NOT_FOUND", "notFound")


@handles(f"{_POOLS}.list")
def list_pools(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.get", at)
    with call.world.lock:
        pools = [dict(pool) for pool in cluster_of(call, at)["nodePools"]]
    return {"nodePools": pools} if pools else {}


@handles(f"{_POOLS}.get")
def get_pool(call: Call) -> Json:
    at = target(call)
    need(call, "container.clusters.get", at)
    with call.world.lock:
        return dict(pool_of(cluster_of(call, at), at))


@handles(f"{_POOLS}.create")
def create_pool(call: Call) -> Json:
    world, at = call.world, target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    body: Json = call.body.get("nodePool") or {}
    name = str(body.get("name", ""))
    check_name("node_pool.name", name)
    if any(pool["name"] == name for pool in cluster["nodePools"]):
        raise container_exists(resource_path(at.project, at.location, at.cluster, name))
    check_idle(call, at)
    pool = new_pool(world, cluster, body, version_of(body.get("version", "")))
    check_pools(world, cluster, [pool])
    with world.mutate():
        cluster["nodePools"].append(pool)
        call.emulator.fleet.add_groups(cluster, pool)
    return _work(
        call, at, cluster, pool, "CREATE_NODE_POOL", "create", "node-pool-create",
        lambda: call.emulator.fleet.resize(at.key, cluster, pool, pool["initialNodeCount"], "node-pool-create"),
    )  # fmt: skip


def _work(
    call: Call,
    at: Target,
    cluster: Json,
    pool: Json,
    kind: str,
    method: str,
    event: str,
    work: Callable[[], None],
    change: Callable[[], None] | None = None,
) -> Json:
    """Start an operation on a pool; ``change`` is applied at its end when the work succeeded."""

    def finish(failure: OperationFailed | None) -> None:
        if failure is None and change is not None:
            change()
        settle_pool(call.world, cluster, pool, failure)
        cluster["status"], cluster["etag"] = "RUNNING", new_etag()

    with call.world.mutate():
        cluster["status"] = "RECONCILING"
        if pool["status"] != "PROVISIONING":
            pool["status"] = "RECONCILING"
    return call.operations.container(
        at.location, kind, operation_target(call, pool["selfLink"]), event=event, key=at.key,
        method=f"{_POOLS}.{method}", work=work, finish=finish,
        foresee=lambda failure: foreseen(call.world, cluster, pool, failure),
    )  # fmt: skip


@handles(f"{_POOLS}.delete")
def delete_pool(call: Call) -> Json:
    world, at = call.world, target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    pool = pool_of(cluster, at)
    check_idle(call, at)

    def work() -> None:
        call.emulator.fleet.remove(at.key, cluster, pool_nodes(world, cluster, at.pool))
        with world.mutate():
            call.emulator.fleet.remove_groups(cluster, pool)

    def finish(failure: OperationFailed | None) -> None:
        if failure is None:
            cluster["nodePools"] = [one for one in cluster["nodePools"] if one["name"] != at.pool]
        else:
            settle_pool(call.world, cluster, pool, failure)
        cluster["status"], cluster["etag"] = "RUNNING", new_etag()

    with world.mutate():
        cluster["status"], pool["status"] = "RECONCILING", "STOPPING"
    return call.operations.container(
        at.location, "DELETE_NODE_POOL", operation_target(call, pool["selfLink"]), event="node-pool-delete", key=at.key,
        method=f"{_POOLS}.delete", work=work, finish=finish,
    )  # fmt: skip


@handles(f"{_POOLS}.setSize")
def set_size(call: Call) -> Json:
    """``nodeCount`` nodes in each of the pool's zones."""
    world, at = call.world, target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    pool = pool_of(cluster, at)
    size = int(call.body.get("nodeCount", 0))
    if size < 0:
        raise invalid_argument("node_count must be a non-negative number.")
    check_idle(call, at)
    more = size * len(pool["locations"]) - len(pool_nodes(world, cluster, at.pool))
    if more > 0:
        check_quota(world, region_of(at.location), usage(pool, more))

    def work() -> None:
        call.emulator.fleet.resize(at.key, cluster, pool, size, "node-pool-resize")

    def change() -> None:
        pool["initialNodeCount"] = size

    return _work(call, at, cluster, pool, "SET_NODE_POOL_SIZE", "setSize", "node-pool-resize", work, change)


def _setting(call: Call, field: str, kind: str, check: Callable[[Json], None] | None = None) -> Json:
    at = target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    pool = pool_of(cluster, at)
    value = call.body.get(field)
    if not isinstance(value, dict):
        raise invalid_argument(f"{field} is required.")
    if check is not None:
        check(value)
    check_idle(call, at)
    method = call.method.id.rsplit(".", 1)[-1]
    method = {"autoscaling": "setAutoscaling"}.get(method, method)

    def change() -> None:
        pool[field] = value
        location_policy(pool)

    return _work(call, at, cluster, pool, kind, method, "node-pool-resize", lambda: None, change)


@handles(f"{_POOLS}.setAutoscaling")
def set_autoscaling(call: Call) -> Json:
    return _setting(call, "autoscaling", "UPDATE_CLUSTER", check_autoscaling)


@handles(f"{_POOLS}.setManagement")
def set_management(call: Call) -> Json:
    return _setting(call, "management", "SET_NODE_POOL_MANAGEMENT")


# Fields of UpdateNodePoolRequest that are not settings of the nodes.
_NOT_CONFIG = {"name", "projectId", "zone", "clusterId", "nodePoolId", "etag", "nodeVersion", "locations",
               "upgradeSettings", "nodeNetworkConfig", "queuedProvisioning", "maxRunDuration",
               "nodeDrainConfig"}  # fmt: skip


@handles(f"{_POOLS}.update")
def update_pool(call: Call) -> Json:
    """Settings change; the nodes that exist are not replaced (README)."""
    at = target(call)
    need(call, "container.clusters.update", at)
    cluster = cluster_of(call, at)
    pool = pool_of(cluster, at)
    if call.body.get("etag") and call.body["etag"] != pool["etag"]:
        raise failed_precondition("The etag of the node pool does not match.")
    config = {key: value for key, value in call.body.items() if key not in _NOT_CONFIG}
    if not config and not set(call.body) & {"nodeVersion", "locations", "upgradeSettings"}:
        raise invalid_argument("Must specify a field to update.")
    check_idle(call, at)
    # Labels, taints and tags come wrapped in a message of their own.
    for name, inner in (("labels", "labels"), ("taints", "taints"), ("tags", "tags"), ("resourceLabels", "labels")):
        if name in config:
            config[name] = config[name].get(inner, [] if name in ("taints", "tags") else {})
    if "diskSizeGb" in config:  # text in this request, a number in the pool
        config["diskSizeGb"] = int(config["diskSizeGb"])
    check_machine({**pool, "config": {**pool["config"], **config}})
    check_upgrade(call.body.get("upgradeSettings", {}))
    zones: list[str] = list(call.body.get("locations") or pool["locations"])
    check_zones(cluster, zones)
    if "workloadMetadataConfig" in config:
        config["workloadMetadataConfig"] = dict(config["workloadMetadataConfig"])

    def work() -> None:
        if zones != pool["locations"]:
            call.emulator.fleet.move(at.key, cluster, pool, zones)

    def change() -> None:
        pool["config"].update(config)
        if "nodeVersion" in call.body:
            pool["version"] = version_of(call.body["nodeVersion"])
        if "upgradeSettings" in call.body:
            pool["upgradeSettings"] = call.body["upgradeSettings"]

    return _work(call, at, cluster, pool, "UPDATE_CLUSTER", "update", "node-pool-resize", work, change)
