"""Whose is it: evidence in single resources."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.gcp import orphans

WHO = orphans.Deployment(
    name="pattern1",
    project="p",
    location="us-central1-a",
    cluster="c",
    namespace="llm-d",
    gateway="gw",
    pool="pool",
    network="default",
    numbers=frozenset({"42"}),
)
MADE = orphans.replace(WHO, made=True, alone=True)
REGION = "regions/us-central1"


def about(cluster: str = "/projects/p/locations/us-central1-a/clusters/c", place: str = "") -> str:
    return json.dumps({"k8sCluster": cluster, "k8sResource": place})


def state(who: orphans.Deployment, kind: str, name: str, scope: str = REGION, **item: Any) -> str:
    return orphans.classify(who, {(kind, scope, name): item})[0].state


@pytest.mark.parametrize(
    ("who", "expected", "item"),
    [
        (MADE, "owned", {"description": about()}),
        (MADE, "owned", {"description": about("/projects/42/zones/us-central1-a/clusters/c")}),
        (MADE, "foreign", {"description": about("/projects/q/locations/us-central1-a/clusters/c")}),
        (MADE, "foreign", {"description": about("/projects/p/locations/us-central1-b/clusters/c")}),
        (MADE, "foreign", {"description": "gkegw1 c pattern1"}),
        (MADE, "foreign", {"description": "{not json"}),
        (MADE, "foreign", {"description": about(), "network": "projects/p/global/networks/other"}),
        (MADE, "foreign", {"labels": {"managed-by": "llmd-gke", "llmd-deployment": "pattern2"}}),
        (MADE, "foreign", {"labels": {"managed-by": "llmd-gke"}}),
        (WHO, "owned", {"labels": {"managed-by": "llmd-gke", "llmd-deployment": "pattern1"}}),
        (WHO, "foreign", {"description": about()}),
        (WHO, "owned", {"description": about(place="/namespaces/llm-d/gateways/gw")}),
        (WHO, "owned", {"description": about(place="/namespaces/llm-d/services/pool-epp")}),
        (WHO, "owned", {"description": about(place="/namespaces/llm-d/services/pool-ips-0a1b2c3d")}),
        (WHO, "foreign", {"description": about(place="/namespaces/llm-d/services/pool-b-epp")}),
        (WHO, "foreign", {"description": about(place="/namespaces/other/gateways/gw")}),
        (orphans.replace(MADE, alive=True), "live", {"description": about()}),
    ],
)
def test_evidence(who: orphans.Deployment, expected: str, item: dict[str, Any]) -> None:
    assert state(who, "backendServices", "x", **item) == expected


def test_a_recorded_address_that_a_person_reserved_stays_theirs() -> None:
    keys = frozenset({("addresses", REGION, "mine-by-hand"), ("addresses", REGION, "gkegw1-ab12-x")})
    who = orphans.replace(WHO, recorded=keys)
    assert state(who, "addresses", "mine-by-hand", status="RESERVED") == "foreign"
    assert state(who, "addresses", "gkegw1-ab12-x") == "owned"


@pytest.mark.parametrize(
    ("who", "name", "expected"),
    [
        (MADE, "gke-c-0a1b2c3d-vms", "owned"),
        (MADE, "gke-c-2-0a1b2c3d-vms", "foreign"),
        (MADE, "gke-c-anything", "foreign"),
        (orphans.replace(MADE, alone=False), "gke-c-0a1b2c3d-vms", "foreign"),
        (WHO, "gke-c-0a1b2c3d-vms", "foreign"),
    ],
)
def test_names_count_only_where_they_mean_one_cluster(who: orphans.Deployment, name: str, expected: str) -> None:
    assert state(who, "firewalls", name, "global") == expected


def test_a_family_follows_evidence_only_on_a_cluster_of_ours() -> None:
    items = {
        ("healthChecks", REGION, "gkegw1-ab12-bare"): {},
        ("urlMaps", REGION, "gkegw1-ab12-map"): {"description": about(place="/namespaces/llm-d/gateways/gw")},
        ("healthChecks", REGION, "gkegw1-cd34-bare"): {},
    }
    mine = {one.name for one in orphans.classify(MADE, items) if one.state == "owned"}
    assert mine == {"gkegw1-ab12-bare", "gkegw1-ab12-map"}
    adopted = {one.name for one in orphans.classify(WHO, items) if one.state == "owned"}
    assert adopted == {"gkegw1-ab12-map"}


def test_a_vanished_cluster_without_a_record_was_ours_only_where_nothing_says_otherwise() -> None:
    gateway = {"description": about(place="/namespaces/llm-d/gateways/gw")}
    default = {"description": about(place="/namespaces/llm-d/services/gw-serve404")}
    other = {"description": about(place="/namespaces/shop/gateways/web")}
    assert orphans.inferred(WHO, [gateway, default]).made
    assert not orphans.inferred(WHO, [gateway, other]).made
    assert not orphans.inferred(WHO, [default]).made
    assert not orphans.inferred(orphans.replace(WHO, alive=True), [gateway]).made


def test_annotations_and_records_are_read() -> None:
    path = "/projects/42/regions/us-central1/urlMaps/a"
    found = orphans.annotated({"networking.gke.io/url-maps": f"{path}, /projects/42/global/urlMaps/b", "x": path})
    assert found == {("urlMaps", REGION, "a"), ("urlMaps", "global", "b")}
    assert orphans.recorded_keys(orphans.text_of(key) for key in found) == found
    assert orphans.recorded_keys(["nonsense", ""]) == frozenset()
    assert orphans.annotated(None) == frozenset()
