"""The Gateway's static address, and the reader of its load balancer, on the emulated project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
ADDRESS = {"name": "gw", "region": "us-central1", "deployment": "pattern1"}
BASE = "https://www.googleapis.com/compute/v1/projects/llmd-sandbox"
REGION = f"{BASE}/regions/us-central1"


@pytest.fixture
def ready(emulated: Any, module: Module) -> Module:
    emulated.control("services", {"enable": ["compute.googleapis.com"]})
    return module


def seed(emulated: Any, collection: str, scope: str, **body: Any) -> None:
    emulated.control("seed", {"resources": [{"collection": collection, "scope": scope, "body": body}]})


def test_an_address_comes_stays_and_goes(emulated: Any, ready: Module) -> None:
    before = emulated.control("snapshot")
    predicted = ready("gcp_address", check=True, **ADDRESS)
    assert predicted["changed"] is True
    assert emulated.control("snapshot") == before
    made = ready("gcp_address", **ADDRESS)
    assert made.get("changed") is True, made
    assert made["address"]["address"]
    for key in ("name", "region", "type", "status", "labels", "users"):
        assert made["address"][key] == predicted["address"][key], key
    again = ready("gcp_address", **ADDRESS)
    assert (again["changed"], again["adopted"], again["api_calls"]) == (False, False, {"compute.addresses.get": 1})
    labelled = ready("gcp_address", labels={"team": "ai"}, **ADDRESS)
    assert labelled.get("changed") is True, labelled
    assert labelled["address"]["labels"]["team"] == "ai"
    assert labelled["address"]["address"] == made["address"]["address"]
    refused = ready("gcp_address", **ADDRESS, address="203.0.113.77")
    assert refused["error"]["code"] == "ADDRESS_IMMUTABLE"
    assert ready("gcp_address", **{**ADDRESS, "deployment": "other"}, state="absent")["kept"]
    assert ready("gcp_address", **ADDRESS, state="absent", check=True)["changed"] is True
    assert ready("gcp_address", **ADDRESS, state="absent")["changed"] is True
    assert ready("gcp_address", **ADDRESS, state="absent")["changed"] is False
    assert emulated.control("snapshot") == before


def test_somebody_elses_address_is_used_and_kept(emulated: Any, ready: Module) -> None:
    seed(emulated, "addresses", "regions/us-central1", name="gw", address="203.0.113.9", addressType="EXTERNAL")
    found = ready("gcp_address", labels={"team": "ai"}, **ADDRESS)
    assert (found["changed"], found["adopted"]) == (False, True), found
    assert ready("gcp_address", **ADDRESS, state="absent")["kept"]
    assert ready("gcp_address", **ADDRESS, state="absent", force=True)["changed"] is True


def test_bad_options(ready: Module) -> None:
    assert ready("gcp_address", subnetwork="default", **ADDRESS)["error"]["code"] == "ADDRESS_INVALID"
    assert ready("gcp_address", **{**ADDRESS, "region": "us-moon1"})["error"]["code"] == "ZONE_NOT_FOUND"


def balancer(emulated: Any, name: str, address: str) -> None:
    """One load balancer, as GKE makes it for a Gateway, by its parts."""
    zone, region = "zones/us-central1-a", "regions/us-central1"
    seed(emulated, "networkEndpointGroups", zone, name=f"{name}-neg", networkEndpointType="GCE_VM_IP_PORT")
    seed(emulated, "regionHealthChecks", region, name=f"{name}-hc", type="HTTP")
    group = f"{BASE}/{zone}/networkEndpointGroups/{name}-neg"
    checks = [f"{REGION}/healthChecks/{name}-hc"]
    seed(emulated, "regionBackendServices", region, name=f"{name}-bs", backends=[{"group": group}], healthChecks=checks)
    matcher = {"name": "m", "defaultService": f"{REGION}/backendServices/{name}-bs"}
    seed(emulated, "regionUrlMaps", region, name=f"{name}-um", pathMatchers=[matcher])
    seed(emulated, "regionTargetHttpProxies", region, name=f"{name}-tp", urlMap=f"{REGION}/urlMaps/{name}-um")
    target = f"{REGION}/targetHttpProxies/{name}-tp"
    seed(emulated, "forwardingRules", region, name=f"{name}-fr", IPAddress=address, target=target)


@pytest.mark.parametrize(
    "query",
    [
        {"address": "203.0.113.10"},
        {
            "annotations": {
                "networking.gke.io/forwarding-rules": "/projects/p/regions/us-central1/forwardingRules/one-fr"
            }
        },
        {"prefix": "one-"},
    ],
)
def test_a_load_balancer_is_read_from_end_to_end(emulated: Any, ready: Module, query: dict[str, Any]) -> None:
    balancer(emulated, "one", "203.0.113.10")
    balancer(emulated, "two", "203.0.113.11")
    seed(emulated, "firewalls", "global", name="one-fw", sourceRanges=["192.168.0.0/23"])
    found = ready("load_balancer_info", region="us-central1", **query)
    assert found.get("found") is True, found
    kinds = ("forwarding_rules", "target_proxies", "url_maps", "backend_services", "health_checks")
    names = {kind: [item["name"] for item in found[kind]] for kind in kinds}
    assert names == dict(zip(kinds, [["one-fr"], ["one-tp"], ["one-um"], ["one-bs"], ["one-hc"]], strict=True))
    assert [group["name"] for group in found["network_endpoint_groups"]] == ["one-neg"]
    assert found["backend_services"][0]["groups"] == ["one-neg"]
    assert [rule["name"] for rule in found["firewalls"]] == (["one-fw"] if "prefix" in query else [])


def test_all_or_nothing(emulated: Any, ready: Module) -> None:
    assert ready("load_balancer_info", region="us-central1")["found"] is False
    balancer(emulated, "one", "203.0.113.10")
    balancer(emulated, "two", "203.0.113.11")
    assert len(ready("load_balancer_info", region="us-central1")["url_maps"]) == 2
    assert ready("load_balancer_info", region="us-central1", address="203.0.113.99")["found"] is False
