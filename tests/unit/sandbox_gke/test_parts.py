from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sandbox.gcp.world import World
from sandbox.gke import loadbalancer, parts
from sandbox.gke.compute import Place, place_of, url_plural
from sandbox.gke.model import (
    CLASSES,
    Backend,
    Certificate,
    Configuration,
    Endpoint,
    HealthCheck,
    Listener,
    Match,
    Picker,
    Rule,
)
from sandbox.gke.names import Namer
from sandbox.gke.parts import Planner

PLACE = Place("llmd-sandbox", "us-central1-a", "c1", "default", "default")
ZONES = ("us-central1-a",)
POOL = Backend(
    "InferencePool",
    "llm-d",
    "gaie-pattern1",
    "gaie-pattern1-ips-47e98c51",
    54321,
    300,
    True,
    HealthCheck(path="/health", port=8000, interval=2, timeout=2),
    Picker("llm-d", "gaie-pattern1-epp", 9002),
)
RULE = Rule("llm-d/r", "t", 0, (), (Match(),), ((POOL, 1),))
CONFIG = Configuration(
    "llm-d", "infra", CLASSES["gke-l7-regional-external-managed"], (Listener("default", 80, "", (RULE,)),)
)
INTERNAL = replace(CONFIG, klass=CLASSES["gke-l7-rilb"])
GLOBAL = Configuration("llm-d", "infra", CLASSES["gke-l7-global-external-managed"], (Listener("default", 80),))


@pytest.fixture
def planner() -> Planner:
    return Planner(PLACE, Namer("uid"))


@pytest.fixture
def world() -> World:
    return World(enabled=["compute.googleapis.com"])


def families(found: list[parts.Part]) -> list[str]:
    return [part.family for part in found]


def test_place() -> None:
    cluster = {"network": "projects/p/global/networks/vpc", "networkConfig": {"subnetwork": "projects/p/x/subnet"}}
    place = place_of("p/us-central1-a/c", cluster)
    assert (place.region, place.network, place.subnetwork) == ("us-central1", "vpc", "subnet")
    assert place.zones == ("us-central1-a",)
    assert place_of("p/europe-west4/c", {}).zones[0] == "europe-west4-a"


def test_url_words() -> None:
    assert url_plural("regionUrlMaps") == "urlMaps"
    assert url_plural("globalAddresses") == "addresses"
    assert url_plural("regions") == "regions"


def test_parts_of_a_gateway_with_a_pool(planner: Planner) -> None:
    found = planner.parts(CONFIG, ZONES, address="203.0.113.1")
    assert families(found) == [
        "firewalls",
        *["healthChecks"] * 3,
        *["networkEndpointGroups"] * 2,
        *["backendServices"] * 3,
        "urlMaps",
        "targetHttpProxies",
        "addresses",
        "forwardingRules",
    ]
    services = {part.name: part.body for part in found if part.family == "backendServices"}
    pool = next(body for name, body in services.items() if "-ips-" in name)
    assert pool["timeoutSec"] == 300
    assert pool["loadBalancingScheme"] == "EXTERNAL_MANAGED"
    assert pool["logConfig"] == {"enable": True}
    assert any("-epp-9002-" in name for name in services)
    assert any("-gw-serve404-80-" in name for name in services)
    checks = {part.body["type"] for part in found if part.family == "healthChecks"}
    assert checks == {"HTTP", "TCP"}


def test_without_an_address_there_is_no_rule(planner: Planner) -> None:
    assert families(planner.parts(CONFIG, ZONES))[-1] == "targetHttpProxies"


def test_internal_and_global_fronts(planner: Planner) -> None:
    internal = {part.family: part for part in planner.parts(INTERNAL, ZONES, address="10.128.15.252")}
    assert internal["forwardingRules"].body["loadBalancingScheme"] == "INTERNAL_MANAGED"
    assert internal["addresses"].body["addressType"] == "INTERNAL"
    assert "networkTier" not in internal["addresses"].body
    outside = {part.family: part for part in planner.parts(GLOBAL, ZONES, address="203.0.113.1")}
    assert outside["forwardingRules"].scope == "global"


def test_classes_do_not_share_backend_services(planner: Planner) -> None:
    def names(config: Configuration) -> set[str]:
        return {part.name for part in planner.parts(config, ZONES) if part.family == "backendServices"}

    assert not names(CONFIG) & names(INTERNAL)


def test_annotations_name_the_parts_and_can_be_read_back(planner: Planner) -> None:
    found = planner.parts(CONFIG, ZONES, address="203.0.113.1")
    notes = parts.annotation_values(PLACE, found, ["ext"])
    prefix = "networking.gke.io/"
    assert notes[prefix + "ssl-certificates"] == ""
    assert notes[prefix + "backend-services"].count(", ") == 2
    assert notes[prefix + "backend-services"].startswith("/projects/123456789012/regions/us-central1/backendServices/")
    assert notes[prefix + "firewalls"].startswith("/projects/123456789012/global/firewalls/gkegw1-")
    assert notes[prefix + "lb-traffic-extensions"].endswith("/lbTrafficExtensions/ext")
    named = {part.key for part in found if part.family != "networkEndpointGroups"}
    assert parts.named(notes) == named


def test_ensure_twice_changes_nothing(planner: Planner, world: World) -> None:
    wanted = planner.parts(CONFIG, ZONES, address="203.0.113.1", proxy_range="192.168.0.0/23")
    assert loadbalancer.ensure(world.compute, wanted) == len(wanted)
    before = world.compute.everything()
    assert loadbalancer.ensure(world.compute, wanted) == 0
    assert world.compute.everything() == before


def test_ensure_mends_what_differs(planner: Planner, world: World) -> None:
    wanted = planner.parts(CONFIG, ZONES, address="203.0.113.1")
    loadbalancer.ensure(world.compute, wanted)
    (service,) = (part for part in wanted if part.family == "backendServices" and "-ips-" in part.name)
    world.compute.patch("regionBackendServices", service.scope, service.name, {"timeoutSec": 1})
    assert loadbalancer.ensure(world.compute, wanted) == 1


def test_collect_leaves_the_project_as_it_was(planner: Planner, world: World) -> None:
    before = world.compute.everything()
    loadbalancer.ensure(world.compute, planner.parts(CONFIG, ZONES, address="203.0.113.1"))
    assert loadbalancer.collect(world.compute, planner, set()) > 10
    assert world.compute.everything() == before


def test_collect_keeps_what_is_wanted_and_what_is_not_ours(planner: Planner, world: World) -> None:
    loadbalancer.ensure(world.compute, planner.parts(CONFIG, ZONES, address="203.0.113.1"))
    earlier = Planner(PLACE, Namer("an earlier cluster of the same name"))
    loadbalancer.ensure(world.compute, earlier.parts(CONFIG, ZONES, address="203.0.113.2"))
    wanted = {
        part.key
        for part in planner.parts(CONFIG, ZONES, address="203.0.113.1")
        if part.family != "networkEndpointGroups"
    }
    wanted |= loadbalancer.groups_of(world.compute, wanted)
    assert loadbalancer.collect(world.compute, planner, wanted) == 0
    loadbalancer.collect(world.compute, planner, set())
    assert world.compute.list("forwardingRules")[0]["IPAddress"] == "203.0.113.2"


def test_addresses(world: World, planner: Planner) -> None:
    def free(internal: bool) -> str:
        return loadbalancer.free_address(world.compute, PLACE, internal=internal, external_range="203.0.113.0/30")

    assert free(False) == "203.0.113.1"
    assert free(True) == "10.128.15.252"
    loadbalancer.ensure(world.compute, planner.parts(CONFIG, ZONES, address="203.0.113.1"))
    loadbalancer.ensure(world.compute, planner.parts(INTERNAL, ZONES, address="10.128.15.252"))
    assert free(False) == "203.0.113.2"
    assert free(True) == "10.128.15.251"


def test_endpoints_go_into_their_zone(world: World, planner: Planner) -> None:
    loadbalancer.ensure(world.compute, planner.parts(CONFIG, ("us-central1-a", "us-central1-b")))
    name = planner.neg_name(POOL)
    endpoints = [Endpoint("10.4.0.2", 8000, "us-central1-b", "n1"), Endpoint("10.4.0.3", 8000, "", "n2")]
    loadbalancer.sync_endpoints(world.compute, name, ("us-central1-a", "us-central1-b"), endpoints)
    assert [item["ipAddress"] for item in world.compute.endpoints("zones/us-central1-a", name)] == ["10.4.0.3"]
    assert [item["ipAddress"] for item in world.compute.endpoints("zones/us-central1-b", name)] == ["10.4.0.2"]


def test_url_map_has_a_matcher_for_each_host(planner: Planner) -> None:
    hosted = replace(RULE, hostnames=("a.example.com",), matches=(Match("Exact", "/x", "GET", (("Exact", "h", "v"),)),))
    config = replace(CONFIG, listeners=(Listener("default", 80, "", (RULE, hosted)),))
    (made,) = (part.body for part in planner.parts(config, ZONES) if part.family == "urlMaps")
    assert [item["hosts"] for item in made["hostRules"]] == [["*"], ["a.example.com"]]
    test = made["pathMatchers"][1]["routeRules"][0]["matchRules"][0]
    assert test["fullPathMatch"] == "/x"
    assert {"headerName": ":method", "exactMatch": "GET"} in test["headerMatches"]


def test_descriptions_name_resource_and_cluster(planner: Planner) -> None:
    for part in planner.parts(CONFIG, ZONES, address="203.0.113.1"):
        text: dict[str, Any] = json.loads(part.body["description"])
        assert text["k8sCluster"] == "/projects/llmd-sandbox/locations/us-central1-a/clusters/c1"


def test_https_has_a_proxy_and_certificates_of_its_own(planner: Planner) -> None:
    shown = Certificate("tls", "f1", True, "CHAIN", "KEY"), Certificate("theirs", "f2", False, "C", "K")
    redirect = replace(RULE, backends=(), filters='[{"type":"RequestRedirect"}]')
    listeners = (Listener("default", 80, "", (redirect,)), Listener("https", 443, "", (RULE,), True, shown))
    found = {part.key: part for part in planner.parts(replace(CONFIG, listeners=listeners), ZONES, address="1.2.3.4")}
    assert families(list(found.values())).count("urlMaps") == 2
    (made,) = [part for part in found.values() if part.family == "sslCertificates"]
    assert made.body["certificate"] == "CHAIN"
    assert "KEY" not in json.dumps([part.body for part in found.values()])
    (secure,) = [part for part in found.values() if part.family == "targetHttpsProxies"]
    assert [url.rpartition("/")[2] for url in secure.body["sslCertificates"]] == [made.name, "theirs"]
    rules = {part.body["portRange"]: part.body["target"] for part in found.values() if part.family == "forwardingRules"}
    assert rules["443-443"].endswith(f"/targetHttpsProxies/{secure.name}")
    assert "/targetHttpProxies/" in rules["80-80"]
    annotations = parts.annotation_values(PLACE, found.values())
    assert made.name in annotations["networking.gke.io/ssl-certificates"]
    assert secure.name in annotations["networking.gke.io/target-https-proxies"]


def test_reserved_addresses_say_who_uses_them(world: World, planner: Planner) -> None:
    store, scope = world.compute, "regions/us-central1"
    store.insert("addresses", scope, {"name": "mine", "address": "203.0.113.9", "status": "RESERVED"})
    config = replace(CONFIG, named_address="mine")
    made = planner.parts(config, ZONES, address="203.0.113.9")
    assert "addresses" not in families(made)  # the reserved one is not the controller's to make
    loadbalancer.ensure(store, made)
    loadbalancer.mark_reserved(store)
    found = store.get("addresses", scope, "mine")
    assert found is not None
    assert found["status"] == "IN_USE"
    assert len(found["users"]) == 1
    loadbalancer.collect(store, planner, set())
    loadbalancer.mark_reserved(store)
    assert (store.get("addresses", scope, "mine") or {})["status"] == "RESERVED"
