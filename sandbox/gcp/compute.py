"""Compute Engine: the methods that most collections share, and operations.

A method ``compute.<collection>.<verb>`` without a handler of its own is served generically when its collection is in
``GENERIC``: get, list, aggregatedList, insert, patch, update, delete, setLabels.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from sandbox.gcp import catalog, listing
from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import (
    ApiError,
    compute_exists,
    compute_forbidden,
    compute_in_use,
    compute_invalid,
    compute_not_found,
    compute_required,
)
from sandbox.gcp.schema import snake
from sandbox.gcp.store import ROOT, family, singular
from sandbox.gcp.world import network_defaults

Json = dict[str, Any]

NAME = r"(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)"
GENERIC = frozenset(
    {"addresses", "backendServices", "disks", "firewalls", "forwardingRules", "healthChecks", "instanceGroupManagers",
     "instanceGroups", "instanceTemplates", "instances", "networkEndpointGroups", "networks", "routers", "routes",
     "sslCertificates", "sslPolicies", "subnetworks", "targetHttpProxies", "targetHttpsProxies", "urlMaps"}
)  # fmt: skip
_READS = {"get", "list", "aggregatedList", "wait", "getHealth", "listNetworkEndpoints", "listManagedInstances",
          "listErrors"}  # fmt: skip
_WAIT_SECONDS = 120.0  # operations.wait answers after two minutes, done or not


# --- who, where, what --------------------------------------------------------------------------------------------


def scope_of(call: Call) -> str:
    """Scope of the request. ApiError 400 for a region or zone that does not exist."""
    if "region" in call.params:
        if call.params["region"] not in catalog.REGIONS:
            raise compute_invalid("region", call.params["region"], "Unknown region.")
        return f"regions/{call.params['region']}"
    if "zone" in call.params:
        if call.params["zone"] not in catalog.ZONES:
            raise compute_invalid("zone", call.params["zone"], "Unknown zone.")
        return f"zones/{call.params['zone']}"
    return "global"


def name_of(call: Call) -> str:
    """Name of the resource in the path: its last parameter."""
    return list(call.params.values())[-1]


def split(call: Call) -> tuple[str, str]:
    """``compute.regionBackendServices.getHealth`` -> ``regionBackendServices``, ``getHealth``."""
    collection, verb = call.method.id.split(".")[1:3]
    return collection, verb


def permission_of(method: str) -> str:
    """IAM permission that a compute method needs."""
    _, collection, verb = method.split(".")[:3]
    if collection == "regionInstanceGroupManagers":
        collection = "instanceGroupManagers"
    if verb in ("list", "aggregatedList"):
        return f"compute.{collection}.list"
    if verb in _READS:
        return f"compute.{collection}.get"
    verb = {"insert": "create", "patch": "update", "attachNetworkEndpoints": "attachNetworkEndpoints",
            "detachNetworkEndpoints": "detachNetworkEndpoints", "delete": "delete", "setLabels": "setLabels",
            "expandIpCidrRange": "expandIpCidrRange"}.get(verb, "update")  # fmt: skip
    return f"compute.{collection}.{verb}"


def authorize(call: Call) -> None:
    """ApiError 404 for another project, 403 in compute's words where the permission is missing."""
    permission = permission_of(call.method.id)
    if call.allowed(permission):
        return
    collection, verb = split(call)
    project = f"projects/{call.world.project}"
    if verb in ("list", "aggregatedList") or collection == "projects":
        raise compute_forbidden(permission, project)
    name = call.body.get("name", "") if verb == "insert" else name_of(call)
    raise compute_forbidden(permission, call.world.compute.path(collection, scope_of(call), str(name)))


# --- generic methods ---------------------------------------------------------------------------------------------


def generic(call: Call) -> Json:
    """Serve a method by its verb. ApiError 501 for what the emulator does not know."""
    collection, verb = split(call)
    if family(collection) in GENERIC:
        if verb == "get":
            return _shown(call.world.compute.need(collection, scope_of(call), name_of(call)))
        if verb == "list":
            return list_answer(call, [_shown(item) for item in call.world.compute.list(collection, scope_of(call))])
        if verb == "aggregatedList":
            scoped = call.world.compute.scoped(collection)
            return aggregated_answer(call, {scope: [_shown(item) for item in found] for scope, found in scoped.items()})
        if verb == "insert":
            return insert(call)
        if verb in ("patch", "update"):
            return patch(call)
        if verb == "delete":
            return delete(call)
        if verb == "setLabels":
            return set_labels(call)
    raise ApiError(501, f"The sandbox does not implement {call.method.id}.", "UNIMPLEMENTED", "notImplemented")


def _shown(item: Json) -> Json:
    """A resource without what goes in and never comes out: the key of an SSL certificate."""
    return {key: value for key, value in item.items() if key != "privateKey"}


def list_answer(call: Call, items: list[Json], kind: str | None = None) -> Json:
    """A list response of ``items`` (filter, maxResults and pageToken applied)."""
    collection, _ = split(call)
    chosen, following = listing.page(
        listing.select(items, call.argument("filter")), call.argument("maxResults"), call.argument("pageToken")
    )
    scope = scope_of(call)
    answer: Json = {
        "kind": kind or f"compute#{singular(collection)}List",
        "id": f"projects/{call.world.project}/{scope}/{family(collection)}",
        "selfLink": f"{ROOT}projects/{call.world.project}/{scope}/{family(collection)}",
    }
    if chosen:
        answer["items"] = chosen
    if following:
        answer["nextPageToken"] = following
    return answer


def aggregated_answer(call: Call, scoped: dict[str, list[Json]]) -> Json:
    """An aggregated list; a scope without any says so in a warning."""
    collection = family(split(call)[0])
    items: Json = {}
    for scope in _scopes_for(collection, scoped):
        found = listing.select(scoped.get(scope, []), call.argument("filter"))
        if found:
            items[scope] = {collection: found}
        elif not call.argument("filter"):
            text = f"There are no results for scope '{scope}' on this page."
            data = [{"key": "scope", "value": scope}]
            items[scope] = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": text, "data": data}}
    path = f"projects/{call.world.project}/aggregated/{collection}"
    kind = f"compute#{singular(collection)}AggregatedList"
    return {"kind": kind, "id": path, "selfLink": ROOT + path, "items": items}


def _scopes_for(collection: str, scoped: dict[str, list[Json]]) -> list[str]:
    regional = {"subnetworks", "routers"}
    both = {"addresses", "backendServices", "forwardingRules", "healthChecks", "sslCertificates", "sslPolicies",
            "targetHttpProxies", "targetHttpsProxies", "urlMaps"}  # fmt: skip
    scopes = [f"regions/{region}" for region in catalog.REGIONS]
    if collection in both:
        scopes.insert(0, "global")
    elif collection not in regional:
        scopes = [f"zones/{zone}" for zone in catalog.ZONES]
    return scopes + sorted(set(scoped) - set(scopes))


def check_new(call: Call, *, taken: bool = True) -> str:
    """Name of the resource to insert. ApiError for a missing, bad or (``taken``) existing one."""
    name = call.body.get("name")
    if not name:
        raise compute_required("resource.name")
    if not re.fullmatch(NAME, name):
        raise compute_invalid("resource.name", name, f"Must be a match of regex '{NAME}'")
    collection, _ = split(call)
    if taken and call.world.compute.get(collection, scope_of(call), name) is not None:
        raise compute_exists(call.world.compute.path(collection, scope_of(call), name))
    return str(name)


def start(call: Call, name: str, apply: Any, *, event: str = "compute-operation", kind: str | None = None) -> Json:
    """Start the operation of a mutation; a repeated ``requestId`` gives the operation that it already started."""
    request_id = call.argument("requestId") or None
    again = call.operations.repeated(request_id)
    if again is not None:
        return again
    collection, verb = split(call)
    scope = scope_of(call)
    store = call.world.compute
    existing = store.get(collection, scope, name)
    return call.operations.compute(
        scope,
        kind or verb,
        store.link(collection, scope, name),
        user=call.identity.email,
        event=event,
        method=call.method.id,
        target_id=None if existing is None else existing["id"],
        request_id=request_id,
        apply=apply,
    )


def insert(call: Call) -> Json:
    collection, _ = split(call)
    if (again := call.operations.repeated(call.argument("requestId") or None)) is not None:
        return again
    name, scope = check_new(call), scope_of(call)
    body = {key: value for key, value in call.body.items() if key not in ("region", "zone", "kind", "id", "selfLink")}
    if family(collection) == "addresses" and scope != "global":
        internal = body.get("addressType") == "INTERNAL"
        body.setdefault("address", _free_internal_address(call) if internal else _free_address(call))
        tier = {} if internal else {"networkTier": "PREMIUM"}
        body = {"status": "RESERVED", "addressType": "EXTERNAL", **tier, "ipVersion": "IPV4", **body}
    return start(call, name, lambda: call.world.compute.insert(collection, scope, body))


def _free_address(call: Call) -> str:
    """A fresh external address, from the end of the documentation range (load balancers take from its start)."""
    used = {address.get("address") for address in call.world.compute.list("addresses")}
    hosts = list(ipaddress.ip_network("203.0.113.0/24").hosts())
    return next(str(host) for host in reversed(hosts) if str(host) not in used)


def _free_internal_address(call: Call) -> str:
    """A free address of the subnet that was named (else of the default one), from its upper end."""
    store, scope = call.world.compute, scope_of(call)
    wanted = str(call.body.get("subnetwork") or "default").rpartition("/")[2]
    inside = ipaddress.ip_network(str(store.need("subnetworks", scope, wanted)["ipCidrRange"]))
    used = {address.get("address") for address in store.list("addresses")}
    used |= {rule.get("IPAddress") for rule in store.list("forwardingRules")}
    # Google keeps the last two addresses of a subnet for itself
    hosts = (str(inside[number]) for number in range(-4, -inside.num_addresses, -1))
    return next(host for host in hosts if host not in used)


def patch(call: Call) -> Json:
    collection, verb = split(call)
    scope, name = scope_of(call), name_of(call)
    current = call.world.compute.need(collection, scope, name)
    sent = call.body.get("fingerprint")
    if sent and current.get("fingerprint") and sent != current["fingerprint"]:
        raise ApiError(412, "Invalid fingerprint.", reason="conditionNotMet")
    fixed = ("name", "id", "kind", "selfLink", "creationTimestamp", "fingerprint", "region", "zone")
    fields = {key: value for key, value in call.body.items() if key not in fixed}
    kind = f"compute.{collection}.{verb}" if verb == "patch" else verb
    return start(call, name, lambda: call.world.compute.patch(collection, scope, name, fields), kind=kind)


def set_labels(call: Call) -> Json:
    collection, _ = split(call)
    scope, name = scope_of(call), name_of(call)
    call.world.compute.need(collection, scope, name)
    labels = call.body.get("labels", {})
    return start(call, name, lambda: call.world.compute.patch(collection, scope, name, {"labels": labels}))


def delete(call: Call) -> Json:
    """Refuse while somebody uses the resource, else remove it at the end of the operation."""
    if (again := call.operations.repeated(call.argument("requestId") or None)) is not None:
        return again
    collection, _ = split(call)
    scope, name, store = scope_of(call), name_of(call), call.world.compute
    resource = store.need(collection, scope, name)

    def check() -> None:
        # forwarding rules name an address by its number; the address itself says which ones do
        named = [str(user).removeprefix(ROOT) for user in store.need(collection, scope, name).get("users") or []]
        users = store.users(resource["selfLink"]) or named
        if users:
            kind = snake(singular(collection))
            raise compute_in_use(kind, store.path(collection, scope, name), users[0])

    def remove() -> None:
        with call.world.mutate():
            check()
            store.delete(collection, scope, name)

    check()
    return start(call, name, remove)


# --- networks ----------------------------------------------------------------------------------------------------


def _with_subnets(call: Call, network: Json) -> Json:
    subnets = [s["selfLink"] for s in call.world.compute.list("subnetworks") if s["network"] == network["selfLink"]]
    return {**network, "subnetworks": subnets} if subnets else network


@handles("compute.networks.get")
def get_network(call: Call) -> Json:
    return _with_subnets(call, call.world.compute.need("networks", "global", call.params["network"]))


@handles("compute.networks.list")
def list_networks(call: Call) -> Json:
    return list_answer(
        call, [_with_subnets(call, network) for network in call.world.compute.list("networks", "global")]
    )


@handles("compute.networks.insert")
def insert_network(call: Call) -> Json:
    name = check_new(call)
    body = network_defaults({"autoCreateSubnetworks": True} | call.body)

    def add() -> None:
        with call.world.mutate():
            call.world.compute.insert("networks", "global", body)
            if body["autoCreateSubnetworks"]:
                call.world.add_auto_subnets(name)

    return start(call, name, add)


@handles("compute.networks.delete")
def delete_network(call: Call) -> Json:
    store, name = call.world.compute, call.params["network"]
    network = store.need("networks", "global", name)
    own = {store.path("subnetworks", f"regions/{region}", name) for region in catalog.REGIONS}
    if not network.get("autoCreateSubnetworks"):
        own = set()
    users = [user for user in store.users(network["selfLink"]) if user not in own]
    if users:
        raise compute_in_use("network", store.path("networks", "global", name), users[0])

    def remove() -> None:
        with call.world.mutate():
            for path in own:
                store.delete("subnetworks", "/".join(path.split("/")[2:4]), name)
            store.delete("networks", "global", name)

    return start(call, name, remove)


@handles("compute.instanceGroupManagers.listErrors")
def list_group_errors(call: Call) -> Json:
    """What went wrong lately with the machines of a managed instance group."""
    scope, name = scope_of(call), name_of(call)
    call.world.compute.need("instanceGroupManagers", scope, name)
    found = call.world.group_errors.get(f"{scope}/{name}", [])
    return {"items": [dict(item) for item in found]} if found else {}


# --- operations --------------------------------------------------------------------------------------------------

_PLACES = ("global", "region", "zone")


def _operation(call: Call) -> Any:
    name, scope = call.params["operation"], scope_of(call)
    found = call.operations.find("compute", name)
    if found is None or found.scope != scope:
        raise compute_not_found(f"projects/{call.world.project}/{scope}/operations/{name}")
    return found


@handles(*(f"compute.{place}Operations.get" for place in _PLACES))
def get_operation(call: Call) -> Json:
    return call.operations.snapshot(_operation(call))


@handles(*(f"compute.{place}Operations.wait" for place in _PLACES))
def wait_operation(call: Call) -> Json:
    """Answers when the operation is done, at the latest after two minutes."""
    operation = _operation(call)
    operation.done.wait(_WAIT_SECONDS)
    return call.operations.snapshot(operation)


@handles(*(f"compute.{place}Operations.list" for place in _PLACES))
def list_operations(call: Call) -> Json:
    scope = scope_of(call)
    found = [op for op in call.operations.list("compute") if op.scope == scope]
    return list_answer(call, [call.operations.snapshot(op) for op in found], "compute#operationList")
