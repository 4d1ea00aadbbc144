"""Health of load-balancer backends and the endpoints of network endpoint groups."""

from __future__ import annotations

from typing import Any

from sandbox.gcp.api import Call, handles
from sandbox.gcp.compute import name_of, scope_of, split, start
from sandbox.gcp.errors import compute_invalid, compute_required

Json = dict[str, Any]


@handles("compute.regionBackendServices.getHealth", "compute.backendServices.getHealth")
def get_health(call: Call) -> Json:
    """Health of one group of a backend service: one entry an endpoint, none before the first probe."""
    collection, _ = split(call)
    service = call.world.compute.need(collection, scope_of(call), name_of(call))
    group = call.body.get("group")
    if not group:
        raise compute_required("resource.group")
    wanted = call.world.compute.canonical(group)
    if wanted not in [backend.get("group") for backend in service.get("backends", [])]:
        why = "The group is not associated with the backend service."
        raise compute_invalid("resource.group", group, why)
    health = call.world.group_health(service, wanted)
    answer: Json = {"kind": "compute#backendServiceGroupHealth"}
    return answer | ({"healthStatus": health} if health else {})


@handles("compute.networkEndpointGroups.listNetworkEndpoints")
def list_endpoints(call: Call) -> Json:
    """Endpoints of a NEG; with ``{"healthStatus": "SHOW"}`` each with its health per backend service."""
    scope, name, store = scope_of(call), name_of(call), call.world.compute
    group = store.need("networkEndpointGroups", scope, name)
    path = f"projects/{store.project}/{scope}/networkEndpointGroups/{name}/listNetworkEndpoints"
    items: list[Json] = [{"networkEndpoint": endpoint} for endpoint in store.endpoints(scope, name)]
    if call.body.get("healthStatus") == "SHOW":
        for service in store.list("backendServices"):
            if group["selfLink"] in [backend.get("group") for backend in service.get("backends", [])]:
                _add_health(items, service, call.world.group_health(service, group["selfLink"]))
    answer: Json = {"kind": "compute#networkEndpointGroupsListNetworkEndpoints", "id": path}
    return answer | ({"items": items} if items else {})


def _add_health(items: list[Json], service: Json, health: list[Json]) -> None:
    states = {(entry.get("ipAddress"), entry.get("port")): entry.get("healthState") for entry in health}
    for item in items:
        endpoint = item["networkEndpoint"]
        state = states.get((endpoint.get("ipAddress"), endpoint.get("port")))
        if state:
            reference = {"backendService": service["selfLink"]}
            item.setdefault("healths", []).append({"backendService": reference, "healthState": state})


def _same(one: Json, other: Json) -> bool:
    return (one.get("ipAddress"), one.get("port")) == (other.get("ipAddress"), other.get("port"))


@handles("compute.networkEndpointGroups.attachNetworkEndpoints")
def attach(call: Call) -> Json:
    scope, name, store = scope_of(call), name_of(call), call.world.compute
    store.need("networkEndpointGroups", scope, name)
    wanted = call.body.get("networkEndpoints", [])

    def add() -> None:
        with call.world.mutate():
            present = store.endpoints(scope, name)
            fresh = [endpoint for endpoint in wanted if not any(_same(endpoint, one) for one in present)]
            store.set_endpoints(scope, name, present + fresh)

    return start(call, name, add)


@handles("compute.networkEndpointGroups.detachNetworkEndpoints")
def detach(call: Call) -> Json:
    scope, name, store = scope_of(call), name_of(call), call.world.compute
    store.need("networkEndpointGroups", scope, name)
    gone = call.body.get("networkEndpoints", [])

    def remove() -> None:
        with call.world.mutate():
            present = store.endpoints(scope, name)
            left = [endpoint for endpoint in present if not any(_same(endpoint, one) for one in gone)]
            store.set_endpoints(scope, name, left)

    return start(call, name, remove)


@handles("compute.instanceGroupManagers.listManagedInstances")
def managed_instances(call: Call) -> Json:
    """Instances whose name has the group's base name."""
    scope, store = scope_of(call), call.world.compute
    manager = store.need("instanceGroupManagers", scope, name_of(call))
    base = manager["baseInstanceName"] + "-"
    found = [
        {
            "instance": instance["selfLink"],
            "id": instance["id"],
            "name": instance["name"],
            "instanceStatus": instance["status"],
            "currentAction": "NONE",
        }
        for instance in store.list("instances", scope)
        if instance["name"].startswith(base)
    ]
    return {"managedInstances": found}
