"""Makes a load balancer's parts true in the compute API, and takes away what nobody wants. Writes only differences."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from sandbox.gke.compute import ComputeStore, Json, Place
from sandbox.gke.model import Endpoint
from sandbox.gke.parts import ORDER, Key, Part, Planner, collection


def ensure(store: ComputeStore, parts: Iterable[Part]) -> int:
    """Create what is missing and patch what differs; the number of changes."""
    changes = 0
    for part in parts:
        kind = collection(part.family, part.scope)
        found = store.get(kind, part.scope, part.name)
        if found is None:
            first = {"size": 0} if part.family == "networkEndpointGroups" else {}
            store.insert(kind, part.scope, {"name": part.name, **part.body, **first})
            changes += 1
            continue
        different = {field: value for field, value in part.body.items() if found.get(field) != value}
        if different:
            store.patch(kind, part.scope, part.name, different)
            changes += 1
    return changes


def owned(store: ComputeStore, planner: Planner) -> list[Key]:
    """Every part that this cluster's controller made, in order of making.

    The name's prefix tells this cluster from an earlier one of the same name, whose orphans are not ours to touch.
    """
    prefixes = (planner.namer.prefix + "-", planner.namer.neg_prefix + "-")
    found = []
    for family in ORDER:
        for item in store.list(family):
            name = str(item["name"])
            if name.startswith(prefixes) and _cluster_of(item) == planner.place.cluster_path:
                found.append((family, _scope_of(item), name))
    return found


def collect(store: ComputeStore, planner: Planner, wanted: set[Key]) -> int:
    """Delete this cluster's parts that nobody wants, referrers first; the number of deletions."""
    deleted = 0
    for family, scope, name in reversed(owned(store, planner)):
        if (family, scope, name) not in wanted:
            store.delete(collection(family, scope), scope, name)
            deleted += 1
    return deleted


def mark_reserved(store: ComputeStore) -> None:
    """Say on addresses that somebody reserved which forwarding rules use them, as the compute API does."""
    rules: dict[tuple[str, str], list[str]] = {}
    for rule in store.list("forwardingRules"):
        rules.setdefault((_scope_of(rule), str(rule.get("IPAddress"))), []).append(str(rule["selfLink"]))
    for item in store.list("addresses"):
        scope = _scope_of(item)
        users = sorted(rules.get((scope, str(item.get("address"))), []))
        wanted = {"status": "IN_USE" if users else "RESERVED", "users": users}
        if not _cluster_of(item) and (item.get("users") or []) != users:
            store.patch(collection("addresses", scope), scope, str(item["name"]), wanted)


def groups_of(store: ComputeStore, services: Iterable[Key]) -> set[Key]:
    """NEGs that the named backend services refer to."""
    found = set()
    for family, scope, name in services:
        item = store.get(collection(family, scope), scope, name) if family == "backendServices" else None
        for backend in (item or {}).get("backends") or []:
            segments = str(backend.get("group", "")).split("/")
            found.add(("networkEndpointGroups", "/".join(segments[-4:-2]), segments[-1]))
    return found


def _cluster_of(item: Json) -> str:
    text = str(item.get("description") or "")
    if not text.startswith("{"):
        return ""
    try:
        return str(json.loads(text).get("k8sCluster", ""))
    except ValueError:
        return ""


def _scope_of(item: Json) -> str:
    segments = str(item["selfLink"]).split("/")
    return "global" if segments[-3] == "global" else "/".join(segments[-4:-2])


def free_address(
    store: ComputeStore, place: Place, *, internal: bool, external_range: str, reserved: Iterable[str] = ()
) -> str:
    """An address for a new forwarding rule: the lowest free external one, or the highest of the cluster's subnet."""
    taken = {str(item.get("address")) for item in store.list("addresses")} | set(reserved)
    taken |= {str(item.get("IPAddress")) for item in store.list("forwardingRules")}
    if not internal:
        hosts: Iterable[Any] = ipaddress.ip_network(external_range).hosts()
    else:
        subnet = store.get("subnetworks", f"regions/{place.region}", place.subnetwork) or {}
        inside = ipaddress.ip_network(str(subnet.get("ipCidrRange", "10.128.0.0/20")))
        # Google keeps the last two addresses of a subnet for itself
        hosts = (inside[number] for number in range(-4, -inside.num_addresses, -1))
    for host in hosts:
        if str(host) not in taken:
            return str(host)
    raise RuntimeError(f"no free address for a load balancer in {external_range if not internal else place.subnetwork}")


def sync_endpoints(store: ComputeStore, name: str, zones: Iterable[str], endpoints: Iterable[Endpoint]) -> None:
    """Put endpoints into the NEG of their zone (those of an unknown zone into the first)."""
    known = sorted(set(zones))
    for zone in known:
        scope = f"zones/{zone}"
        if store.get("networkEndpointGroups", scope, name) is None:
            continue
        mine = [
            {"instance": item.instance, "ipAddress": item.ip, "port": item.port}
            for item in endpoints
            if (item.zone if item.zone in known else known[0]) == zone
        ]
        if store.endpoints(scope, name) != mine:
            store.set_endpoints(scope, name, mine)
