"""Runs in the fabric's namespace, with the sandbox's Python: a real API server (no nodes) and GKE's controllers on it.

Started by test_gateway_controller.py. Prints one JSON object of what was seen.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sandbox import paths as layout
from sandbox.gcp.world import World
from sandbox.gke import addons, make_controllers
from sandbox.gke.conditions import status_of
from sandbox.gke.kubeapi import ApiError, Client, Resource
from sandbox.gke.snapshot import GATEWAY, GATEWAY_CLASS, HEALTH_POLICY, HTTP_ROUTE, NAMESPACE, POOL, SERVICE
from sandbox.kubernetes.manager import ClusterManager
from sandbox.timing import Timing

KEY = "llmd-sandbox/us-central1-a/gateway-test"
OBJECTIVE = Resource("inference.networking.x-k8s.io", "v1alpha2", "inferenceobjectives", "InferenceObjective")
LISTENER = {"name": "default", "port": 80, "protocol": "HTTP"}


def wait(what: str, check: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)
    return found


def thing(resource: Resource, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "llm-d"}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec}


def states(client: Client, resource: Resource, name: str) -> dict[str, str]:
    found = (client.get(resource, name, "llm-d") or {}).get("status") or {}
    conditions = found.get("conditions") or (found.get("parents") or [{}])[0].get("conditions") or []
    return {item["type"]: item["status"] for item in conditions}


def health_policy(client: Client, **detail: Any) -> str:
    """Dry run of the pool chart's HealthCheckPolicy; the refusal, if there is one."""
    config = {"type": "HTTP", "httpHealthCheck": {"requestPath": "/health", "port": 8000, **detail}}
    ref = {"group": POOL.group, "kind": POOL.kind, "name": "pool"}
    body = thing(HEALTH_POLICY, "pool", {"targetRef": ref, "default": {"config": config}})
    try:
        client.call("POST", HEALTH_POLICY.path("llm-d"), body=body, dryRun="All")
    except ApiError as error:
        return str(error)
    return ""


def install(client: Client, path: Path) -> None:
    for item in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        client.apply(addons.CRD, item)


def pool_and_route(client: Client) -> None:
    picker = {"name": "pool-epp", "port": {"number": 9002}}
    labels = {"matchLabels": {"app": "model"}}
    client.create(
        POOL, thing(POOL, "pool", {"selector": labels, "targetPorts": [{"number": 8000}], "endpointPickerRef": picker})
    )
    rule = {"backendRefs": [{"group": POOL.group, "kind": POOL.kind, "name": "pool"}]}
    client.create(HTTP_ROUTE, thing(HTTP_ROUTE, "route", {"parentRefs": [{"name": "gw"}], "rules": [rule]}))


def run(client: Client, world: World) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    wait("Gateway API", lambda: len(classes(client)) == 4 and all(classes(client).values()))
    seen["classes"] = classes(client)
    for path in sorted((addons.FOLDER / "upstream").glob("*.yaml")):
        install(client, path)
    wait("CRDs", lambda: set(accepted_names(client).values()) == {"True"})
    seen["established"] = accepted_names(client)
    client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-d"}})
    wait("objectives", lambda: served(client, OBJECTIVE))
    spec = {"gatewayClassName": "gke-l7-regional-external-managed", "listeners": [LISTENER]}
    client.create(GATEWAY, thing(GATEWAY, "gw", spec))
    seen["refused"] = wait("refusal", lambda: refusal(client))
    network = world.compute.link("networks", "global", "default")
    proxy = {"name": "proxy", "network": network, "ipCidrRange": "192.168.0.0/23", "role": "ACTIVE"}
    world.compute.insert("subnetworks", "regions/us-central1", {**proxy, "purpose": "REGIONAL_MANAGED_PROXY"})
    before = world.compute.everything()["subnetworks"]
    client.patch(GATEWAY, "gw", "llm-d", {"metadata": {"annotations": {"force-reconcile": "1"}}})
    wait("Programmed", lambda: states(client, GATEWAY, "gw").get("Programmed") == "True")
    pool_and_route(client)
    wait("route", lambda: states(client, HTTP_ROUTE, "route").get("ResolvedRefs") == "False")
    seen["pool"] = (client.get(POOL, "pool", "llm-d") or {})["spec"]["endpointPickerRef"]
    client.create(SERVICE, thing(SERVICE, "pool-epp", {"selector": {"app": "epp"}, "ports": [{"port": 9002}]}))
    wait(
        "pool without pods",
        lambda: (
            states(client, HTTP_ROUTE, "route") == {"ResolvedRefs": "True", "Accepted": "True", "Reconciled": "False"}
        ),
    )
    seen["services"] = sorted(
        item["metadata"]["name"] for item in client.list(SERVICE)[0] if item["metadata"]["namespace"] == "llm-d"
    )
    seen["older"] = health_policy(client)
    install(client, addons.FOLDER / "managed" / "healthcheckpolicies.newer.yaml")
    seen["newer"] = wait("newer generation", lambda: health_policy(client))
    seen["newer fixed"] = health_policy(client, portSpecification="USE_FIXED_PORT")
    client.delete(GATEWAY, "gw", "llm-d")
    wait("Gateway gone", lambda: client.get(GATEWAY, "gw", "llm-d") is None)
    parts = [name for items in world.compute.everything().values() for name in items]
    seen["left"] = sorted(name for name in parts if "/gkegw1-" in name or "/k8s1-" in name)
    assert world.compute.everything()["subnetworks"] == before
    return seen


def accepted_names(client: Client) -> dict[str, str]:
    found = client.list(addons.CRD)[0]
    return {
        item["metadata"]["name"]: status_of((item.get("status") or {}).get("conditions"), "NamesAccepted")
        for item in found
    }


def classes(client: Client) -> dict[str, bool]:
    try:
        found = client.list(GATEWAY_CLASS)[0]
    except ApiError:
        return {}
    return {
        item["metadata"]["name"]: status_of((item.get("status") or {}).get("conditions"), "Accepted") == "True"
        for item in found
    }


def refusal(client: Client) -> str:
    found = client.get(GATEWAY, "gw", "llm-d") or {}
    for item in (found.get("status") or {}).get("conditions") or []:
        if item["type"] == "Programmed" and item["status"] == "False":
            return str(item["message"])
    return ""


def served(client: Client, resource: Resource) -> bool:
    try:
        client.list(resource)
    except ApiError:
        return False
    return True


def main() -> int:
    paths, timing = layout.current(), Timing(0)
    world = World(enabled=["compute.googleapis.com", "networkservices.googleapis.com"])
    backend = ClusterManager(paths, timing)
    backend.create_cluster(KEY, version="1.34.1-gke.1829001", gateway_api=True)
    config = {"gatewayApiConfig": {"channel": "CHANNEL_STANDARD"}}
    with world.mutate():
        world.clusters[KEY] = {"name": "gateway-test", "status": "RUNNING", "networkConfig": config}
    controllers = make_controllers(world, backend, timing, paths)
    try:
        print(json.dumps(run(Client(backend.admin(KEY)), world)))
    finally:
        controllers.stop()
        backend.delete_cluster(KEY)
        backend.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
