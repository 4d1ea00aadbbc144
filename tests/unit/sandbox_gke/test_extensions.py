"""GCPRoutingExtensions: which one a Gateway asks, and what their status says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.gke import extensions, gateway, parts, xds_routes
from sandbox.gke.compute import Place
from sandbox.gke.model import CLASSES, Configuration, Extension
from sandbox.gke.names import Namer
from sandbox.gke.snapshot import Snapshot

Object = dict[str, Any]
Make = Callable[..., Object]
Snap = Callable[..., Snapshot]
EXTERNAL = CLASSES["gke-l7-regional-external-managed"]
KEY = ("llm-d", "infra-pattern1-inference-gateway")


@pytest.fixture
def extension(make: Make) -> Object:
    callout = {
        "name": "ext1",
        "authority": "myext.com",
        "timeout": "1s",
        "supportedEvents": ["RequestHeaders", "RequestBody", "RequestTrailers"],
        "requestBodySendMode": "FullDuplexStreamed",
        "backendRef": {"group": "", "kind": "Service", "name": "body-based-router", "port": 9004},
    }
    ref = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": KEY[1]}
    chains = [{"name": "chain1", "extensions": [callout]}]
    return make("GCPRoutingExtension", "body-based-router", spec={"targetRefs": [ref], "extensionChains": chains})


@pytest.fixture
def service(make: Make) -> Object:
    return make("Service", "body-based-router", spec={"ports": [{"port": 9004}]})


def test_the_charts_extension(make: Make, snap: Snap, gateway: Object, extension: Object, service: Object) -> None:
    check = {"config": {"type": "GRPC", "grpcHealthCheck": {"portSpecification": "USE_FIXED_PORT", "port": 9005}}}
    target = {"group": "", "kind": "Service", "name": "body-based-router"}
    policy = make("HealthCheckPolicy", "bbr-healthcheck", spec={"targetRef": target, "default": check})
    used, verdicts = extensions.of_gateway(snap(extension, service, policy), gateway, EXTERNAL)
    assert used is not None
    assert (used.service, used.port, used.authority, used.fail_open) == ("body-based-router", 9004, "myext.com", False)
    assert (used.body, used.trailers) == ("FullDuplexStreamed", True)
    assert (used.health.kind, used.health.port) == ("GRPC", 9005)
    assert [verdict.reason for verdict in verdicts] == [""]


def change(item: Object, path: str, value: Any) -> Object:
    changed = copy.deepcopy(item)
    place: Any = changed["spec"]["extensionChains"][0]
    *folders, last = path.split(".")
    for name in folders:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("matchCondition", {"celExpressions": [{"celMatcher": "true"}]}, "Invalid"),
        ("extensions.0.supportedEvents", ["ResponseHeaders"], "Invalid"),
        ("extensions.0.backendRef.name", "nowhere", "BackendNotFound"),
        ("extensions.0.backendRef.port", 1, "BackendNotFound"),
    ],
)
def test_refused(
    snap: Snap, gateway: Object, extension: Object, service: Object, path: str, value: Any, reason: str
) -> None:
    used, (verdict,) = extensions.of_gateway(snap(change(extension, path, value), service), gateway, EXTERNAL)
    assert (used, verdict.reason) == (None, reason)
    assert verdict.message


def test_classes_and_precedence(make: Make, snap: Snap, gateway: Object, extension: Object, service: Object) -> None:
    glob = CLASSES["gke-l7-global-external-managed"]
    used, (verdict,) = extensions.of_gateway(snap(extension, service), gateway, glob)
    assert (used, verdict.reason) == (None, "Unsupported")
    younger = make("GCPRoutingExtension", "a", created="2027-01-01T00:00:00Z", spec=extension["spec"])
    used, verdicts = extensions.of_gateway(snap(younger, extension, service), gateway, EXTERNAL)
    assert used is not None
    assert used.name == "llm-d/body-based-router"
    assert [verdict.reason for verdict in verdicts] == ["", "Conflicted"]
    # one that cannot be used leaves its place to the next
    broken = change(extension, "extensions.0.backendRef.port", 1)
    used, verdicts = extensions.of_gateway(snap(younger, broken, service), gateway, EXTERNAL)
    assert used is not None
    assert used.name == "llm-d/a"


def test_status_follows_what_serves(snap: Snap, gateway: Object, extension: Object, service: Object) -> None:
    snapshot = snap(extension, service, gateway)
    _, verdicts = extensions.of_gateway(snapshot, gateway, EXTERNAL)
    assert extensions.ancestors(extension, verdicts, {}) == []
    (entry,) = extensions.ancestors(extension, verdicts, {KEY: "llm-d/body-based-router"})
    assert entry["ancestorRef"] == {
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": KEY[0], "name": KEY[1],
    }  # fmt: skip
    assert entry["controllerName"] == "networking.gke.io/gateway"
    (condition,) = entry["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Attached", "True", "Attached")
    foreign = {"ancestorRef": {"name": "x"}, "controllerName": "example.org/other", "conditions": []}
    known = {**extension, "status": {"ancestors": [entry, foreign]}}
    assert extensions.ancestors(known, verdicts, {}) == [foreign, entry]  # kept while the load balancer changes
    gone = extensions.lost(snap(extension), extension)
    (entry,) = extensions.ancestors(extension, gone, {})
    assert (entry["conditions"][0]["status"], entry["conditions"][0]["reason"]) == ("False", "TargetNotFound")


def test_it_needs_the_api_and_is_a_backend_of_its_own() -> None:
    asked = Extension("llm-d/bbr", "llm-d", "body-based-router", 9004, "myext.com", "FullDuplexStreamed", True)
    config = Configuration("llm-d", "gw", EXTERNAL, (), extension=asked)
    problem = gateway.gce_problem(config, pools=False, proxy_subnet=True, network_services=False, target="t")
    assert problem is not None
    assert "NetworkServices API" in problem.message
    place = Place("llmd-sandbox", "us-central1-a", "c1", "default", "default")
    made = parts.Planner(place, Namer("uid")).parts(config, ["us-central1-a"])
    (backend,) = [part for part in made if part.family == "backendServices" and "body-based-router" in part.name]
    assert backend.body["protocol"] == "HTTP2"
    notes = parts.annotation_values(place, made, (), ["gkegw1-x"])
    path = f"/projects/{place.number}/locations/us-central1/lbRouteExtensions/gkegw1-x"
    assert notes["networking.gke.io/lb-route-extensions"] == path


def test_every_request_asks_it() -> None:
    asked = Extension("llm-d/bbr", "llm-d", "bbr", 9004, "myext.com", "FullDuplexStreamed", True)
    config = xds_routes.route_configuration("c", "n", 80, [], asked)
    override = config["typed_per_filter_config"][xds_routes.ROUTING]["overrides"]
    assert override["grpc_service"]["envoy_grpc"] == {
        "cluster_name": "c|llm-d|bbr|9004|extension", "authority": "myext.com",
    }  # fmt: skip
    assert override["failure_mode_allow"] is False
    assert override["processing_mode"]["request_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert override["processing_mode"]["response_header_mode"] == "SKIP"
    assert "typed_per_filter_config" not in xds_routes.route_configuration("c", "n", 80, [])
