"""Routing and validation against the discovery documents themselves."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.gcp import compute, discovery, schema
from sandbox.gcp.api import HANDLERS
from sandbox.gcp.container import modern
from sandbox.gcp.emulator import API_MODULES
from sandbox.gcp.testing import ROUTER, Cloud

P = "/compute/v1/projects/p"
ROUTES = [
    ("compute.googleapis.com", "POST", f"{P}/regions/r/subnetworks", "compute.subnetworks.insert"),
    ("compute.googleapis.com", "GET", f"{P}/aggregated/subnetworks", "compute.subnetworks.aggregatedList"),
    ("compute.googleapis.com", "POST", f"{P}/regions/r/backendServices/b/getHealth",
     "compute.regionBackendServices.getHealth"),
    ("compute.googleapis.com", "GET", f"{P}/global/forwardingRules/f", "compute.globalForwardingRules.get"),
    ("compute.googleapis.com", "GET", "/compute/beta/projects/p/regions/r/subnetworks/s", "compute.subnetworks.get"),
    ("container.googleapis.com", "PUT", "/v1/projects/p/locations/z/clusters/c",
     "container.projects.locations.clusters.update"),
    ("container.googleapis.com", "POST", "/v1/projects/p/locations/z/clusters/c/nodePools/n:setSize",
     "container.projects.locations.clusters.nodePools.setSize"),
    ("container.googleapis.com", "POST", "/v1/projects/p/zones/z/clusters/c/nodePools/n/setSize",
     "container.projects.zones.clusters.nodePools.setSize"),
    ("container.googleapis.com", "GET", "/v1beta1/projects/p/locations/z/clusters/c",
     "container.projects.locations.clusters.get"),
    ("serviceusage.googleapis.com", "POST", "/v1/projects/p/services/compute.googleapis.com:enable",
     "serviceusage.services.enable"),
    ("cloudresourcemanager.googleapis.com", "POST", "/v1/projects/p:testIamPermissions",
     "cloudresourcemanager.projects.testIamPermissions"),
    ("cloudresourcemanager.googleapis.com", "POST", "/v3/projects/p:testIamPermissions",
     "cloudresourcemanager.projects.testIamPermissions"),
    ("iamcredentials.googleapis.com", "GET", "/v1/projects/-/serviceAccounts/a@b/allowedLocations",
     "iamcredentials.projects.serviceAccounts.getAllowedLocations"),
    ("monitoring.googleapis.com", "GET", "/v3/projects/p/metricDescriptors/custom.googleapis.com/a/b",
     "monitoring.projects.metricDescriptors.get"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "verb", "path", "expected"), ROUTES)
def test_a_request_finds_its_method(host: str, verb: str, path: str, expected: str) -> None:
    found = ROUTER.find(host, verb, path)
    assert found is not None
    assert found[0].id == expected


def test_what_is_no_method_is_not_found() -> None:
    assert ROUTER.find("compute.googleapis.com", "GET", "/compute/v1/nothing/here") is None
    assert ROUTER.find("storage.googleapis.com", "GET", "/v1/b") is None


def test_every_method_of_a_document_matches_its_own_template() -> None:
    for name in ("compute.v1", "container.v1", "serviceusage.v1", "cloudresourcemanager.v1", "iamcredentials.v1"):
        for method in discovery.methods(ROUTER.document(name)):
            if method.id.startswith("compute.reservationSlots."):
                continue  # its template and the pattern of its parameter contradict each other
            found = ROUTER.find(_host(name), method.verb, method.flat.replace("{", "x").replace("}", ""))
            assert found is not None, method.id
            assert found[0].id == method.id


def _host(document: str) -> str:
    return next(host for host, names in discovery.DOCUMENTS.items() if document in names.values())


def test_every_handler_is_for_a_method_that_exists() -> None:
    known = {
        method.id
        for names in discovery.DOCUMENTS.values()
        for name in names.values()
        for method in discovery.methods(ROUTER.document(name))
    }
    assert API_MODULES
    assert set(HANDLERS) - known - {"cloudresourcemanager.projects.search"} == set()


def test_old_container_methods_lead_to_handlers() -> None:
    used = ("clusters.get", "clusters.create", "clusters.nodePools.setSize", "clusters.nodePools.autoscaling",
            "clusters.resourceLabels", "operations.get", "getServerconfig")  # fmt: skip
    for rest in used:
        assert modern(f"container.projects.zones.{rest}") in HANDLERS


def test_generic_collections_exist_in_compute() -> None:
    collections = set(ROUTER.document("compute.v1").content["resources"])
    assert collections >= compute.GENERIC


def test_fingerprinted_families_have_a_fingerprint() -> None:
    from sandbox.gcp.store import FINGERPRINTED, singular

    schemas = ROUTER.document("compute.v1").schemas
    for family in FINGERPRINTED:
        name = singular(family)
        found = schemas[name[0].upper() + name[1:]]["properties"]
        assert found["fingerprint"]["format"] == "byte", family


def read(document: str, method: str, body: Any) -> tuple[Any, list[tuple[str, str]]]:
    return schema.read_request(ROUTER.method(document, method), body)


def test_an_unknown_field_is_named_as_google_names_it() -> None:
    body = {"nodePool": {"name": "x", "config": {"workloadMetaConfig": {"mode": "GKE_METADATA"}}}}
    _, violations = read("container.v1", "container.projects.locations.clusters.nodePools.create", body)
    text = (
        "Invalid JSON payload received. Unknown name \"workloadMetaConfig\" at 'node_pool.config': Cannot find field."
    )
    assert violations == [("node_pool.config", text)]


@pytest.mark.parametrize(
    ("update", "text"),
    [
        ({"desiredGatewayApiConfig": {"channel": "CHANNEL_FAST"}},
         "Invalid value at 'update.desired_gateway_api_config.channel' "
         '(type.googleapis.com/google.container.v1.GatewayAPIConfig.Channel), "CHANNEL_FAST"'),
        ({"desiredLocations": "us-central1-a"},
         "Invalid value at 'update.desired_locations' (repeated), \"us-central1-a\""),
        ({"desiredNodePoolAutoscaling": {"enabled": "yes"}},
         "Invalid value at 'update.desired_node_pool_autoscaling.enabled' (TYPE_BOOL), \"yes\""),
        ({"desiredNodePoolAutoscaling": {"maxNodeCount": "many"}},
         "Invalid value at 'update.desired_node_pool_autoscaling.max_node_count' (TYPE_INT32), \"many\""),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused(update: dict[str, Any], text: str) -> None:
    _, violations = read("container.v1", "container.projects.locations.clusters.update", {"update": update})
    assert [violation[1] for violation in violations] == [text]


def test_a_body_is_normalised() -> None:
    body = {"node_pool": {"name": "x", "initialNodeCount": "1", "version": None,
                          "config": {"accelerators": [{"acceleratorCount": 1}]}}}  # fmt: skip
    normal, violations = read("container.v1", "container.projects.locations.clusters.nodePools.create", body)
    assert violations == []
    assert normal == {
        "nodePool": {"name": "x", "initialNodeCount": 1, "config": {"accelerators": [{"acceleratorCount": "1"}]}}
    }


def test_answers_must_be_exact() -> None:
    method = ROUTER.method("compute.v1", "compute.subnetworks.get")
    assert schema.check_response(method, {"name": "x", "id": 5}) == [("id", "Invalid value at 'id' (TYPE_INT64), 5")]
    assert schema.check_response(method, {"ip_cidr_range": "10.0.0.0/8"})[0][1].endswith("Cannot find field.")
    assert schema.check_response(method, {"fingerprint": "no base64!"})


def test_bad_requests_get_the_whole_list(cloud: Cloud) -> None:
    error = cloud.fails(
        400,
        "POST",
        f"{cloud.compute}/regions/us-central1/subnetworks?nothing=1",
        {"name": "x", "flow": 1, "ipCidrRange": 5},
    )
    assert error["status"] == "INVALID_ARGUMENT"
    violations = error["details"][0]["fieldViolations"]
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [one["description"] for one in violations] == error["message"].split("\n")
    assert "Field 'nothing' could not be found in request message." in error["message"]
    assert 'Unknown name "flow": Cannot find field.' in error["message"]
    assert "Invalid value at 'ip_cidr_range' (TYPE_STRING), 5" in error["message"]


def test_bad_json_is_refused(cloud: Cloud) -> None:
    answer = cloud.session.post(
        f"{cloud.server.url}/{cloud.container}/clusters",
        data="{oops",
        headers={"Authorization": f"Bearer {cloud.token}"},
        timeout=5,
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid JSON payload received.")


def test_return_partial_success_is_let_through(cloud: Cloud) -> None:
    cloud.ok(
        "GET", f"{cloud.compute}/regions/us-central1/subnetworks?returnPartialSuccess=true&alt=json&prettyPrint=false"
    )
