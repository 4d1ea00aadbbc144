"""gcp_proxy_subnet from its options to its JSON; ranges judged before anything is sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import ranges

BASE = "https://www.googleapis.com/compute/v1/projects/my-project"
NETWORK = f"{BASE}/global/networks/default"
REGION = f"{BASE}/regions/us-central1"
MARK = "Proxy-only subnet for llm-d gateways (managed-by=llmd-gke llmd-deployment=pattern1)"
OPTIONS = {"region": "us-central1", "range": "192.168.0.0/23", "deployment": "pattern1"}
OPERATION = {
    "kind": "compute#operation",
    "name": "operation-1",
    "operationType": "insert",
    "status": "RUNNING",
    "region": REGION,
}
DONE = {**OPERATION, "status": "DONE"}


def subnet(name: str = "proxy-only-subnet", **fields: Any) -> dict[str, Any]:
    return {
        "kind": "compute#subnetwork",
        "name": name,
        "ipCidrRange": "192.168.0.0/23",
        "network": NETWORK,
        "region": REGION,
        "purpose": "REGIONAL_MANAGED_PROXY",
        "role": "ACTIVE",
        "state": "READY",
        "description": MARK,
        "selfLink": f"{REGION}/subnetworks/{name}",
        **fields,
    }


def ordinary(name: str = "default", cidr: str = "10.128.0.0/20", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ipCidrRange": cidr,
        "network": NETWORK,
        "region": REGION,
        "purpose": "PRIVATE",
        "selfLink": f"{REGION}/subnetworks/{name}",
        **fields,
    }


def listing(*subnets: dict[str, Any]) -> dict[str, Any]:
    return {"items": {"regions/us-central1": {"subnetworks": list(subnets)}, "regions/other": {"warning": {}}}}


@pytest.fixture
def project(google: Any) -> Any:
    """A project with an auto-mode default network and its subnet."""
    google.on("GET", r"regions/us-central1/operations\?filter", {})
    google.on("GET", "aggregated/subnetworks", listing(ordinary()))
    google.on("GET", "global/networks/default$", {"name": "default", "autoCreateSubnetworks": True})
    google.on("POST", "regions/us-central1/subnetworks", OPERATION)
    google.on("POST", "/wait", DONE)
    google.on("GET", "subnetworks/proxy-only-subnet$", subnet())
    google.on("DELETE", "subnetworks/proxy-only-subnet", {**OPERATION, "operationType": "delete"})
    google.on("GET", "locations/-/clusters$", {})
    return google


def test_it_is_made_and_marked(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert result["changed"] is True
    assert result["adopted"] is False
    assert result["subnetwork"]["state"] == "READY"
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"]["ipCidrRange"] == "192.168.0.0/23"
    (insert,) = project.writes()
    assert "requestId=" in insert.url
    assert insert.body == {
        "name": "proxy-only-subnet",
        "description": MARK,
        "network": "projects/my-project/global/networks/default",
        "ipCidrRange": "192.168.0.0/23",
        "purpose": "REGIONAL_MANAGED_PROXY",
        "role": "ACTIVE",
    }
    assert result["api_calls"]["compute.subnetworks.insert"] == 1


def test_it_may_come_while_something_else_is_done(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    asked = run_module("gcp_proxy_subnet", wait=False, **OPTIONS)
    assert (asked["changed"], asked["subnetwork"]["state"]) == (True, "CREATING")
    assert "compute.regionOperations.wait" not in asked["api_calls"]
    running = {**OPERATION, "targetLink": f"{REGION}/subnetworks/proxy-only-subnet"}
    project.on("GET", r"regions/us-central1/operations\?filter", {"items": [running]})
    again = run_module("gcp_proxy_subnet", **OPTIONS)
    assert again["subnetwork"]["state"] == "READY"
    assert len(project.writes()) == 1, "asked for twice"


def test_a_killed_runs_insert_is_waited_for(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    running = {**OPERATION, "targetLink": f"{REGION}/subnetworks/proxy-only-subnet"}
    other = {**OPERATION, "name": "operation-2", "targetLink": f"{REGION}/subnetworks/another"}
    project.on("GET", r"regions/us-central1/operations\?filter", {"items": [other, running]})
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert result["subnetwork"]["state"] == "READY"
    assert project.writes() == []
    assert result["api_calls"]["compute.regionOperations.wait"] >= 1


def test_check_mode_predicts_and_writes_nothing(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    predicted = run_module("gcp_proxy_subnet", check=True, **OPTIONS)
    assert project.writes() == []
    assert predicted["changed"] is True
    real = run_module("gcp_proxy_subnet", **OPTIONS)
    ignored = {"selfLink"}
    for key in set(real["diff"]["after"]) - ignored:
        assert predicted["diff"]["after"][key] == real["diff"]["after"][key], key


def test_a_second_run_is_one_call(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    project.on("GET", "aggregated/subnetworks", listing(ordinary(), subnet()))
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert (result["changed"], result["adopted"]) == (False, False)
    assert result["api_calls"] == {"compute.subnetworks.aggregatedList": 1}


def test_any_active_one_is_adopted(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    project.on("GET", "aggregated/subnetworks", listing(subnet("theirs", ipCidrRange="10.0.0.0/23", description="")))
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert (result["changed"], result["adopted"]) == (False, True)
    assert result["subnetwork"]["name"] == "theirs"
    assert "theirs" in str(result["warnings"])
    refused = run_module("gcp_proxy_subnet", adopt=False, **OPTIONS)
    assert refused["error"]["code"] == "PROXY_SUBNET_EXISTS"


def test_another_regions_or_networks_one_does_not_count(
    project: Any, run_module: Callable[..., dict[str, Any]]
) -> None:
    elsewhere = subnet("a", region=f"{BASE}/regions/europe-west4", ipCidrRange="172.24.0.0/23")
    foreign = subnet("b", network=f"{BASE}/global/networks/other")
    project.on("GET", "aggregated/subnetworks", listing(elsewhere, foreign))
    assert run_module("gcp_proxy_subnet", check=True, **OPTIONS)["changed"] is True


@pytest.mark.parametrize(
    ("subnets", "code"),
    [
        ([subnet("old", purpose="INTERNAL_HTTPS_LOAD_BALANCER")], "PROXY_SUBNET_LEGACY"),
        ([ordinary("proxy-only-subnet", "192.168.8.0/23")], "SUBNET_NAME_TAKEN"),
        ([ordinary("mine", "192.168.0.0/16")], "CIDR_CONFLICT"),
        (
            [ordinary(secondaryIpRanges=[{"rangeName": "pods", "ipCidrRange": "192.168.1.0/24"}])],
            "CIDR_CONFLICT",
        ),
    ],
)
def test_what_is_in_the_way_is_named(
    project: Any, run_module: Callable[..., dict[str, Any]], subnets: list[dict[str, Any]], code: str
) -> None:
    project.on("GET", "aggregated/subnetworks", listing(*subnets))
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert result["error"]["code"] == code
    assert project.writes() == []
    if code == "CIDR_CONFLICT":
        assert subnets[0]["name"] in result["msg"]
        assert "llmd_proxy_subnet.range=" in result["error"]["remedy"]


@pytest.mark.parametrize(
    ("cidr", "code", "word"),
    [
        ("nonsense", "CIDR_INVALID", "192.168.0.0/23"),
        ("10.0.0.0", "CIDR_INVALID", "192.168.0.0/23"),
        ("fd00::/64", "CIDR_INVALID", "192.168.0.0/23"),
        ("192.168.0.1/23", "CIDR_HOST_BITS", "192.168.0.0/23"),
        ("192.168.0.0/27", "CIDR_TOO_SMALL", "/23"),
        ("10.129.0.0/23", "CIDR_RESERVED_RANGE", "192.168.0.0/23"),
        ("10.0.0.0/8", "CIDR_RESERVED_RANGE", "10.128.0.0/9"),
        ("169.254.0.0/23", "CIDR_RESERVED_RANGE", "169.254.0.0/16"),
    ],
)
def test_bad_ranges_are_refused_before_the_call(
    project: Any, run_module: Callable[..., dict[str, Any]], cidr: str, code: str, word: str
) -> None:
    result = run_module("gcp_proxy_subnet", **{**OPTIONS, "range": cidr})
    assert result["failed"] is True
    assert result["error"]["code"] == code
    assert word in result["msg"]
    assert project.writes() == []


def test_ten_slash_nine_is_fine_in_a_custom_network() -> None:
    ranges.check("10.200.0.0/23", auto_mode=False, taken=[])
    with pytest.raises(ConfigurationError):
        ranges.check("10.200.0.0/23", auto_mode=True, taken=[])


def test_the_suggestion_is_free() -> None:
    taken = [ranges.TakenRange(ipaddress.IPv4Network("192.168.0.0/17"), "x")]
    assert ranges.suggest(23, taken) == "192.168.128.0/23"
    assert ranges.suggest(8, taken) == ""


def test_losing_a_race_adopts_the_winner(
    project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]
) -> None:
    project.on("GET", "aggregated/subnetworks", listing(ordinary()), listing(subnet("theirs", description="")))
    conflict = "Invalid IPCidrRange: 192.168.0.0/23 conflicts with existing subnetwork 'theirs'"
    project.on("POST", "subnetworks", error_reply(400, conflict))
    result = run_module("gcp_proxy_subnet", **OPTIONS)
    assert (result["changed"], result["adopted"]) == (False, True)


def test_an_unknown_network(
    project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]
) -> None:
    missing = "The resource 'projects/my-project/global/networks/default' was not found"
    project.on("GET", "global/networks/default$", error_reply(404, missing, reason="notFound"))
    assert run_module("gcp_proxy_subnet", **OPTIONS)["error"]["code"] == "NETWORK_NOT_FOUND"


def test_draining_is_waited_out(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    project.on("GET", "aggregated/subnetworks", listing(subnet(state="DRAINING")))
    project.on("GET", "subnetworks/proxy-only-subnet$", subnet(state="DRAINING"), subnet())
    assert run_module("gcp_proxy_subnet", **OPTIONS)["subnetwork"]["state"] == "READY"


ABSENT = {"region": "us-central1", "deployment": "pattern1", "state": "absent"}


def test_ours_is_deleted(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module("gcp_proxy_subnet", check=True, **ABSENT)["changed"] is True
    assert project.writes() == []
    result = run_module("gcp_proxy_subnet", **ABSENT)
    assert result["changed"] is True
    assert result["diff"]["after"] == ""
    assert [request.verb for request in project.writes()] == ["DELETE"]


@pytest.mark.parametrize(
    ("found", "options", "deleted"),
    [
        (subnet(description="by hand"), {}, False),
        (subnet(description="by hand"), {"force": True}, True),
        (subnet(description=MARK.replace("pattern1", "pattern2")), {}, True),  # pattern2 is gone: see below
        (ordinary("proxy-only-subnet"), {"force": True}, False),
    ],
)
def test_others_are_kept(
    project: Any, run_module: Callable[..., dict[str, Any]], found: Any, options: Any, deleted: bool
) -> None:
    project.on("GET", "subnetworks/proxy-only-subnet$", found)
    result = run_module("gcp_proxy_subnet", **ABSENT, **options)
    assert result["changed"] is deleted
    assert bool(result["kept"]) is not deleted
    assert bool(project.writes()) is deleted


def cluster(
    deployment: str, location: str = "us-central1-b", network: str = "default", **labels: str
) -> dict[str, Any]:
    return {
        "name": f"{deployment}-cluster",
        "location": location,
        "network": network,
        "networkConfig": {"network": f"projects/my-project/global/networks/{network}"},
        "resourceLabels": {"managed-by": "llmd-gke", "llmd-deployment": deployment, **labels},
    }


@pytest.mark.parametrize("maker", ["pattern1", "pattern2"])
@pytest.mark.parametrize(
    ("clusters", "deleted"),
    [
        ([cluster("pattern2")], False),
        ([cluster("pattern2", location="us-central1")], False),
        ([cluster("pattern3")], False),
        ([cluster("pattern1")], True),  # this deployment's own, in a teardown of everything but the cluster
        ([cluster("pattern2", location="europe-west4-a")], True),
        ([cluster("pattern2", network="other")], True),
        ([cluster("pattern2", **{"managed-by": "somebody"})], True),
    ],
)
def test_the_last_deployment_of_the_region_takes_it_away(
    project: Any, run_module: Callable[..., dict[str, Any]], maker: str, clusters: list[Any], deleted: bool
) -> None:
    project.on("GET", "subnetworks/proxy-only-subnet$", subnet(description=MARK.replace("pattern1", maker)))
    project.on("GET", "locations/-/clusters$", {"clusters": clusters})
    result = run_module("gcp_proxy_subnet", **ABSENT)
    assert result["changed"] is deleted
    assert ("other deployments of the region: pattern" in result["kept"]) is not deleted
    assert bool(project.writes()) is deleted


def test_without_a_list_of_clusters_only_its_own_is_deleted(
    project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]
) -> None:
    refused = error_reply(403, 'Required "container.clusters.list" permission(s) for "projects/my-project".')
    project.on("GET", "locations/-/clusters$", refused)
    project.on("GET", "subnetworks/proxy-only-subnet$", subnet(description=MARK.replace("pattern1", "pattern2")))
    assert "cannot be listed" in run_module("gcp_proxy_subnet", **ABSENT)["kept"]
    project.on("GET", "subnetworks/proxy-only-subnet$", subnet())
    assert run_module("gcp_proxy_subnet", **ABSENT)["changed"] is True


def test_of_a_shared_network_only_its_own_is_deleted(project: Any, run_module: Callable[..., dict[str, Any]]) -> None:
    """Clusters of the other projects that use it cannot be seen from this one."""
    project.on("GET", "subnetworks/proxy-only-subnet$", subnet(description=MARK.replace("pattern1", "pattern2")))
    result = run_module("gcp_proxy_subnet", network="projects/host/global/networks/shared", **ABSENT)
    assert "other projects use the network" in result["kept"]


def test_gone_is_gone(project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]) -> None:
    missing = "The resource 'projects/my-project/regions/us-central1/subnetworks/proxy-only-subnet' was not found"
    project.on("GET", "subnetworks/proxy-only-subnet$", error_reply(404, missing, reason="notFound"))
    assert run_module("gcp_proxy_subnet", **ABSENT)["changed"] is False


IN_USE = "The subnetwork resource 'x' is already being used by 'projects/my-project/forwardingRules/gkegw1-abcd'"


def test_in_use_is_waited_for(
    project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]
) -> None:
    in_use = error_reply(400, IN_USE, reason="resourceInUseByAnotherResource")
    project.on("DELETE", "subnetworks", in_use, in_use, OPERATION)
    late = {"errors": [{"code": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "message": IN_USE}]}
    project.on("POST", "/wait", {**DONE, "error": late}, DONE)
    assert run_module("gcp_proxy_subnet", **ABSENT)["changed"] is True


def test_in_use_for_ever_names_the_user(
    project: Any, run_module: Callable[..., dict[str, Any]], error_reply: Callable[..., Any]
) -> None:
    project.on("DELETE", "subnetworks", error_reply(400, IN_USE, reason="resourceInUseByAnotherResource"))
    result = run_module("gcp_proxy_subnet", timeout=30, **ABSENT)
    assert result["error"]["code"] == "RESOURCE_IN_USE"
    assert "gkegw1-abcd" in result["msg"]
    assert sum(project.clock.slept) <= 30
