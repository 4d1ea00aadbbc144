"""InferencePools: the Service that stands for each, the endpoints behind any Service, and the pools' status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.gke import names
from sandbox.gke.conditions import condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import CONTROLLER, POOL_PORT, Backend, Endpoint, Picker
from sandbox.gke.snapshot import GATEWAY_GROUP, POOL, Snapshot, generation, ready_addresses

_PORT_NAME = "inference"


def pool_ports(pool: Object) -> list[int]:
    """Target ports of a pool."""
    return [int(item["number"]) for item in pool.get("spec", {}).get("targetPorts") or []]


def pool_labels(pool: Object) -> dict[str, str]:
    """Labels that the pool's pods carry."""
    return dict(pool.get("spec", {}).get("selector", {}).get("matchLabels") or {})


def picker_of(pool: Object) -> Picker | None:
    """The pool's endpoint picker, or None where the reference is not to a Service with a port."""
    ref = pool.get("spec", {}).get("endpointPickerRef") or {}
    number = (ref.get("port") or {}).get("number")
    if not ref.get("name") or (ref.get("kind") or "Service") != "Service" or number is None:
        return None
    fail_open = (ref.get("failureMode") or "FailClose") == "FailOpen"
    return Picker(pool["metadata"]["namespace"], ref["name"], int(number), fail_open)


def shadow_service(pool: Object) -> Object:
    """The headless Service ``<pool>-ips-<hash>``: port 54321 (and following, for further target ports)."""
    meta = pool["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.pool_service(meta["namespace"], meta["name"]),
            "namespace": meta["namespace"],
            "labels": {"networking.gke.io/managed-by": "gke-gateway-controller"},
            "annotations": {"networking.gke.io/inference-pool": meta["name"]},
            "ownerReferences": [
                {
                    "apiVersion": POOL.api_version,
                    "kind": POOL.kind,
                    "name": meta["name"],
                    "uid": meta.get("uid", ""),
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "clusterIP": "None",
            "type": "ClusterIP",
            "selector": pool_labels(pool),
            "ports": [
                {
                    "name": _PORT_NAME if index == 0 else f"{_PORT_NAME}-{index}",
                    "protocol": "TCP",
                    "port": POOL_PORT + index,
                    "targetPort": number,
                }
                for index, number in enumerate(pool_ports(pool))
            ],
        },
    }


def service_differs(found: Object | None, wanted: Object) -> bool:
    """Whether the shadow Service must be written: absent, or with another selector or other ports."""
    if found is None:
        return True
    spec, want = found.get("spec", {}), wanted["spec"]
    ports = [{key: item.get(key) for key in want["ports"][0]} for item in spec.get("ports") or []]
    return bool(spec.get("selector") != want["selector"] or ports != want["ports"])


def endpoints_of(snapshot: Snapshot, namespace: str, service: str, port: int) -> list[Endpoint]:
    """Endpoints of one Service port, ready or not, as a NEG holds them (terminating ones have left it).

    For a pool's shadow Service every target port counts: one backend service serves them all.
    """
    found = snapshot.find("Service", namespace, service)
    if found is None:
        return []
    ports = found.get("spec", {}).get("ports") or []
    wanted = {item.get("name") or "" for item in ports if item.get("port") == port or port == POOL_PORT}
    result: dict[tuple[str, int], Endpoint] = {}
    for item in snapshot.slices_of(namespace, service):
        numbers = [int(entry["port"]) for entry in item.get("ports") or [] if (entry.get("name") or "") in wanted]
        for endpoint in item.get("endpoints") or []:
            for each in _endpoint(snapshot, endpoint, numbers):
                result[each.ip, each.port] = each
    return [result[key] for key in sorted(result)]


def _endpoint(snapshot: Snapshot, endpoint: Mapping[str, Any], ports: Iterable[int]) -> list[Endpoint]:
    state = endpoint.get("conditions") or {}
    if state.get("terminating"):
        return []
    node = str(endpoint.get("nodeName") or "")
    zone = str(endpoint.get("zone") or "") or snapshot.zone(node)
    ready = state.get("ready") is not False
    return [Endpoint(ip, port, zone, node, ready) for ip in endpoint.get("addresses") or [] for port in ports]


def picker_addresses(snapshot: Snapshot, picker: Picker) -> list[tuple[str, int]]:
    """Ready pod addresses behind the picker's Service port."""
    service = snapshot.find("Service", picker.namespace, picker.service)
    if service is None:
        return []
    for item in service.get("spec", {}).get("ports") or []:
        if item.get("port") == picker.port:
            slices = snapshot.slices_of(picker.namespace, picker.service)
            return ready_addresses(slices, item.get("name") or "", picker.port)
    return []


def has_pods(snapshot: Snapshot, backend: Backend) -> bool:
    """Whether any pod belongs to the backend; only pools are asked."""
    if backend.kind != "InferencePool":
        return True
    pool = snapshot.find("InferencePool", backend.namespace, backend.name)
    return bool(pool and snapshot.pods_of(backend.namespace, pool_labels(pool)))


def pool_parents(pool: Object, gateways: Iterable[tuple[str, str]], picker_found: bool) -> list[Object]:
    """status.parents of a pool: ours for each Gateway that routes to it, other controllers' as they are."""
    old = (pool.get("status") or {}).get("parents") or []
    other = [
        item
        for item in old
        if item.get("controllerName") != CONTROLLER and (item.get("parentRef") or {}).get("kind") != "Status"
    ]
    mine = []
    seen = generation(pool)
    for namespace, name in sorted(gateways):
        ref = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
        before: Object = next((item for item in old if item.get("parentRef") == ref), {})
        resolved = (
            condition("ResolvedRefs", True, "ResolvedRefs", generation=seen)
            if picker_found
            else condition(
                "ResolvedRefs",
                False,
                "InvalidExtensionRef",
                f"InferencePool extension service {_picker_name(pool)} not found.",
                seen,
            )
        )
        wanted = [condition("Accepted", True, "Accepted", generation=seen), resolved]
        conditions = merge(before.get("conditions") or [], wanted)
        mine.append({"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions})
    return other + mine


def _picker_name(pool: Object) -> str:
    return str((pool.get("spec", {}).get("endpointPickerRef") or {}).get("name", ""))
