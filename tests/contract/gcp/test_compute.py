"""Compute Engine: catalogue, subnets, operations, generic collections, health."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.gcp.testing import Cloud, seed_backend

PROXY: dict[str, Any] = {
    "name": "proxy-only-subnet",
    "ipCidrRange": "192.168.0.0/23",
    "network": "global/networks/default",
    "purpose": "REGIONAL_MANAGED_PROXY",
    "role": "ACTIVE",
}


def subnets(cloud: Cloud) -> str:
    return f"{cloud.compute}/regions/us-central1/subnetworks"


def test_the_catalogue(cloud: Cloud) -> None:
    quotas = {quota["metric"]: quota for quota in cloud.ok("GET", f"{cloud.compute}/regions/us-central1")["quotas"]}
    assert quotas["NVIDIA_T4_GPUS"] == {"metric": "NVIDIA_T4_GPUS", "limit": 4.0, "usage": 0.0}
    project = {quota["metric"] for quota in cloud.ok("GET", cloud.compute)["quotas"]}
    assert "GPUS_ALL_REGIONS" in project
    assert len(cloud.ok("GET", f"{cloud.compute}/zones?filter=name=us-central1-*")["items"]) == 4
    found = cloud.ok("GET", f"{cloud.compute}/zones/us-central1-a/acceleratorTypes")["items"]
    assert "nvidia-tesla-t4" in {item["name"] for item in found}
    assert cloud.ok("GET", f"{cloud.compute}/zones/us-central1-a/machineTypes/n1-standard-4")["guestCpus"] == 4
    cloud.fails(404, "GET", f"{cloud.compute}/zones/europe-west1-d/machineTypes/g2-standard-4")
    cloud.fails(404, "GET", f"{cloud.compute}/zones/us-central1-f/acceleratorTypes/nvidia-l4")
    error = cloud.fails(400, "GET", f"{cloud.compute}/zones/nowhere-1-a/machineTypes")
    assert error["message"] == "Invalid value for field 'zone': 'nowhere-1-a'. Unknown zone."
    for name in ("acceleratorTypes", "machineTypes"):
        scopes = cloud.ok("GET", f"{cloud.compute}/aggregated/{name}")["items"]
        assert name in scopes["zones/us-central1-a"]


def test_a_new_project_gets_its_network_with_the_api(fresh: Cloud) -> None:
    assert fresh.world.compute.list("networks") == []
    fresh.run("POST", "serviceusage.googleapis.com/v1/projects/llmd-sandbox/services/compute.googleapis.com:enable", {})
    network = fresh.ok("GET", f"{fresh.compute}/global/networks/default")
    assert network["autoCreateSubnetworks"] is True
    assert len(network["subnetworks"]) > 10
    rules = fresh.ok("GET", f"{fresh.compute}/global/firewalls")["items"]
    assert {rule["name"] for rule in rules} == {f"default-allow-{name}" for name in ("icmp", "internal", "rdp", "ssh")}


def test_a_proxy_only_subnet_comes_and_goes(cloud: Cloud) -> None:
    before = cloud.world.snapshot()
    operation = cloud.ok("POST", subnets(cloud), PROXY)
    assert (operation["status"], operation["operationType"]) == ("RUNNING", "insert")
    done = cloud.done(operation)
    assert (done["status"], done["progress"]) == ("DONE", 100)
    assert "error" not in done
    subnet = cloud.ok("GET", f"{subnets(cloud)}/proxy-only-subnet")
    assert (subnet["purpose"], subnet["role"], subnet["state"]) == ("REGIONAL_MANAGED_PROXY", "ACTIVE", "READY")
    assert subnet["gatewayAddress"] == "192.168.0.1"
    assert subnet["network"] == "https://www.googleapis.com/compute/v1/projects/llmd-sandbox/global/networks/default"
    assert cloud.world.active_proxy_subnet("us-central1") == subnet
    cloud.run("DELETE", f"{subnets(cloud)}/proxy-only-subnet")
    error = cloud.fails(404, "GET", f"{subnets(cloud)}/proxy-only-subnet")
    resource = "projects/llmd-sandbox/regions/us-central1/subnetworks/proxy-only-subnet"
    assert error == {
        "code": 404,
        "message": f"The resource '{resource}' was not found",
        "errors": [{"message": f"The resource '{resource}' was not found", "domain": "global", "reason": "notFound"}],
    }
    assert cloud.world.snapshot() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": None},
         "Invalid value for field 'resource.role': 'UNSPECIFIED_ROLE'. Subnetwork role must be specified when purpose "
         "set to REGIONAL_MANAGED_PROXY."),
        ({"ipCidrRange": "10.200.0.0/16"},
         "Invalid value for field 'resource.ipCidrRange': '10.200.0.0/16'. Extended subnetworks in auto subnet mode "
         "networks cannot overlap with 10.128.0.0/9."),
        ({"logConfig": {"enable": False}},
         "Invalid value for field 'resource.logConfig': '{  \"enable\": false}'. Invalid field set in subnetwork with "
         "purpose REGIONAL_MANAGED_PROXY."),
        ({"ipCidrRange": "192.168.0.0/27"}, "/26 or larger"),
        ({"ipCidrRange": "192.168.0.1/23"}, "192.168.0.0/23"),
        ({"ipCidrRange": "nonsense"}, "Must be a CIDR address range."),
        ({"ipCidrRange": None}, "Required field 'resource.ipCidrRange' not specified"),
        ({"ipCidrRange": "127.0.0.0/24"}, "not allowed"),
        ({"name": "Upper"}, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"),
        ({"name": None}, "Required field 'resource.name' not specified"),
        ({"network": None}, "Required field 'resource.network' not specified"),
    ],
)  # fmt: skip
def test_what_google_says_against_a_subnet(cloud: Cloud, change: dict[str, Any], message: str) -> None:
    error = cloud.fails(400, "POST", subnets(cloud), PROXY | change)
    assert message in error["message"]
    assert error["errors"][0]["reason"] in ("invalid", "required")


def test_a_subnet_needs_a_network_that_exists(cloud: Cloud) -> None:
    error = cloud.fails(404, "POST", subnets(cloud), PROXY | {"network": "global/networks/other"})
    assert error["message"] == "The resource 'projects/llmd-sandbox/global/networks/other' was not found"


def test_one_active_proxy_subnet_and_no_overlap(cloud: Cloud) -> None:
    cloud.run("POST", subnets(cloud), PROXY)
    error = cloud.fails(409, "POST", subnets(cloud), PROXY)
    assert error["errors"][0]["reason"] == "alreadyExists"
    error = cloud.fails(400, "POST", subnets(cloud), PROXY | {"name": "second", "ipCidrRange": "192.168.8.0/23"})
    assert "already exists in the network and region" in error["message"]
    backup = PROXY | {"name": "backup", "role": "BACKUP", "ipCidrRange": "192.168.0.0/24"}
    error = cloud.fails(400, "POST", subnets(cloud), backup)
    assert error["message"].endswith("conflicts with existing subnetwork 'proxy-only-subnet' in region 'us-central1'.")
    cloud.run("POST", subnets(cloud), backup | {"ipCidrRange": "192.168.8.0/23"})


def test_a_used_proxy_subnet_stays(cloud: Cloud) -> None:
    cloud.run("POST", subnets(cloud), PROXY)
    rule = {"name": "gkegw1-rule", "loadBalancingScheme": "EXTERNAL_MANAGED", "network": "global/networks/default"}
    cloud.world.compute.insert("forwardingRules", "regions/us-central1", rule)
    user = "projects/llmd-sandbox/regions/us-central1/forwardingRules/gkegw1-rule"
    assert cloud.world.subnet_users("proxy-only-subnet", "us-central1") == [user]
    error = cloud.fails(400, "DELETE", f"{subnets(cloud)}/proxy-only-subnet")
    assert error["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    assert error["message"] == (
        "The subnetwork resource 'projects/llmd-sandbox/regions/us-central1/subnetworks/proxy-only-subnet' is already "
        f"being used by '{user}'"
    )
    cloud.world.compute.delete("forwardingRules", "regions/us-central1", "gkegw1-rule")
    cloud.run("DELETE", f"{subnets(cloud)}/proxy-only-subnet")


def test_auto_subnets_cannot_be_deleted(cloud: Cloud) -> None:
    error = cloud.fails(400, "DELETE", f"{subnets(cloud)}/default")
    assert error["message"] == "Cannot delete auto subnetwork from an auto subnet mode network."


def test_lists_are_filtered_paged_and_masked(cloud: Cloud) -> None:
    cloud.run("POST", subnets(cloud), PROXY)
    found = cloud.ok(
        "GET", f"{subnets(cloud)}?filter=purpose=REGIONAL_MANAGED_PROXY&fields=items(name,role),nextPageToken"
    )
    assert found == {"items": [{"name": "proxy-only-subnet", "role": "ACTIVE"}]}
    first = cloud.ok("GET", f"{subnets(cloud)}?maxResults=1")
    second = cloud.ok("GET", f"{subnets(cloud)}?maxResults=1&pageToken={first['nextPageToken']}")
    assert [page["items"][0]["name"] for page in (first, second)] == ["default", "proxy-only-subnet"]
    assert "nextPageToken" not in second
    everywhere = cloud.ok("GET", f"{cloud.compute}/aggregated/subnetworks")["items"]
    assert len(everywhere["regions/us-central1"]["subnetworks"]) == 2
    error = cloud.fails(400, "GET", f"{subnets(cloud)}?filter=((")
    assert "Invalid list filter expression" in error["message"]
    none = cloud.ok("GET", f"{subnets(cloud)}", params={"filter": '(purpose = "PRIVATE") (network eq ".*other")'})
    assert "items" not in none


def test_operations_are_listed_and_missing_ones_are_not_found(cloud: Cloud) -> None:
    done = cloud.run("POST", subnets(cloud), PROXY)
    listed = cloud.ok("GET", f"{cloud.compute}/regions/us-central1/operations")["items"]
    assert done["name"] in {operation["name"] for operation in listed}
    path = f"{cloud.compute}/regions/us-central1/operations/{done['name']}"
    assert cloud.ok("GET", path)["status"] == "DONE"
    cloud.fails(404, "GET", path.replace("us-central1", "us-east1"))


def test_a_repeated_request_id_is_one_request(cloud: Cloud) -> None:
    path = f"{subnets(cloud)}?requestId=6e0d9b5c-66a7-4d0e-9f3e-5a1f0a8c1b2d"
    first = cloud.run("POST", path, PROXY)
    assert cloud.ok("POST", path, PROXY)["name"] == first["name"]


def test_collections_share_their_verbs(cloud: Cloud) -> None:
    checks = f"{cloud.compute}/regions/us-central1/healthChecks"
    cloud.run("POST", checks, {"name": "hc", "type": "HTTP", "httpHealthCheck": {"port": 8000}})
    services = f"{cloud.compute}/regions/us-central1/backendServices"
    body = {"name": "bs", "healthChecks": ["regions/us-central1/healthChecks/hc"], "protocol": "HTTP"}
    cloud.run("POST", services, body)
    error = cloud.fails(400, "DELETE", f"{checks}/hc")
    assert error["message"].startswith("The health_check resource 'projects/")
    cloud.run("PATCH", f"{services}/bs", {"timeoutSec": 300})
    service = cloud.ok("GET", f"{services}/bs")
    assert (service["timeoutSec"], service["kind"]) == (300, "compute#backendService")
    error = cloud.fails(412, "PATCH", f"{services}/bs", {"fingerprint": "AAAA", "timeoutSec": 1})
    assert error["errors"][0]["reason"] == "conditionNotMet"
    cloud.run("DELETE", f"{services}/bs")
    cloud.run("DELETE", f"{checks}/hc")
    address = f"{cloud.compute}/regions/us-central1/addresses"
    cloud.run("POST", address, {"name": "ip"})
    assert cloud.ok("GET", f"{address}/ip")["address"].startswith("203.0.113.")
    cloud.fails(501, "POST", f"{address}/ip/move", {"destinationAddress": "x"})


def test_networks(cloud: Cloud) -> None:
    networks = f"{cloud.compute}/global/networks"
    cloud.run("POST", networks, {"name": "own", "autoCreateSubnetworks": False})
    body = {"name": "sub", "ipCidrRange": "10.200.0.0/16", "network": "global/networks/own"}
    cloud.run("POST", subnets(cloud), body)
    error = cloud.fails(400, "DELETE", f"{networks}/own")
    assert error["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    cloud.run("POST", f"{subnets(cloud)}/sub/expandIpCidrRange", {"ipCidrRange": "10.200.0.0/15"})
    cloud.run("DELETE", f"{subnets(cloud)}/sub")
    cloud.run("DELETE", f"{networks}/own")
    assert [network["name"] for network in cloud.ok("GET", networks)["items"]] == ["default"]


def test_health_of_backends(cloud: Cloud) -> None:
    name = seed_backend(cloud)
    path = f"{cloud.compute}/regions/us-central1/backendServices/{name}"
    group = cloud.ok("GET", path)["backends"][0]["group"]
    health = cloud.ok("POST", f"{path}/getHealth", {"group": group})
    assert health == {
        "kind": "compute#backendServiceGroupHealth",
        "healthStatus": [{"ipAddress": "10.4.2.6", "port": 8000, "healthState": "HEALTHY"}],
    }
    cloud.fails(400, "POST", f"{path}/getHealth", {"group": "zones/us-central1-a/networkEndpointGroups/other"})
    negs = f"{cloud.compute}/zones/us-central1-a/networkEndpointGroups/{name}-neg"
    shown = cloud.ok("POST", f"{negs}/listNetworkEndpoints", {"healthStatus": "SHOW"})["items"]
    assert shown[0]["healths"][0]["healthState"] == "HEALTHY"
    cloud.run("POST", f"{negs}/detachNetworkEndpoints", {"networkEndpoints": [{"ipAddress": "10.4.2.6", "port": 8000}]})
    assert cloud.ok("GET", negs)["size"] == 0
    cloud.run("POST", f"{negs}/attachNetworkEndpoints", {"networkEndpoints": [{"ipAddress": "10.4.2.7", "port": 8000}]})
    assert len(cloud.ok("POST", f"{negs}/listNetworkEndpoints", {})["items"]) == 1


def test_a_watcher_hears_of_changes_without_the_lock(cloud: Cloud) -> None:
    heard: list[int] = []
    cloud.world.on_change(lambda: heard.append(cloud.world._depth))
    cloud.run("POST", subnets(cloud), PROXY)
    assert heard
    assert set(heard) == {0}
