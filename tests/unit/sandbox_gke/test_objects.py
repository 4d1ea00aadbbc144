"""Policies, pools and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox.gke import policies, pools
from sandbox.gke.conditions import condition, merge
from sandbox.gke.model import Endpoint, HealthCheck
from sandbox.gke.snapshot import Snapshot

Object = dict[str, Any]
Make = Callable[..., Object]
Snap = Callable[..., Snapshot]


def policy(make: Make, kind: str, default: Object, name: str = "gaie-pattern1", **more: Any) -> Object:
    ref = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "gaie-pattern1"}
    return make(kind, name, spec={"targetRef": ref, "default": default}, **more)


def test_the_charts_health_check(make: Make, snap: Snap, pool: Object) -> None:
    check = {"type": "HTTP", "httpHealthCheck": {"requestPath": "/health", "port": 8000}}
    made = policy(make, "HealthCheckPolicy", {"timeoutSec": 2, "checkIntervalSec": 2, "config": check})
    found = policies.health_check(snap(pool, made), "InferencePool", "llm-d", "gaie-pattern1")
    assert found == HealthCheck("HTTP", "/health", 8000, "", 2, 2, 2, 2)


def test_without_a_policy_the_root_is_probed(snap: Snap, pool: Object) -> None:
    found = policies.health_check(snap(pool), "InferencePool", "llm-d", "gaie-pattern1")
    assert (found.kind, found.path, found.port) == ("HTTP", "/", None)


def test_serving_port_wins_over_a_port(make: Make, snap: Snap, pool: Object) -> None:
    detail = {"portSpecification": "USE_SERVING_PORT", "port": 9}
    made = policy(make, "HealthCheckPolicy", {"config": {"type": "HTTP", "httpHealthCheck": detail}})
    assert policies.health_check(snap(pool, made), "InferencePool", "llm-d", "gaie-pattern1").port is None


def test_backend_policy(make: Make, snap: Snap, pool: Object) -> None:
    made = policy(make, "GCPBackendPolicy", {"timeoutSec": 300, "logging": {"enabled": True}})
    assert policies.backend_settings(snap(pool, made), "InferencePool", "llm-d", "gaie-pattern1") == (300, True)
    assert policies.backend_settings(snap(pool), "InferencePool", "llm-d", "gaie-pattern1") == (30, False)


def test_attached(make: Make, snap: Snap, pool: Object) -> None:
    first = policy(make, "GCPBackendPolicy", {})
    second = policy(make, "GCPBackendPolicy", {}, "later", created="2026-02-01T00:00:00Z")
    both = snap(pool, first, second)
    assert policies.attached(both, first) == (True, "Attached", "")
    assert policies.attached(both, second)[1] == "Conflicted"
    assert policies.attached(snap(first), first)[1] == "TargetNotFound"


def test_shadow_service(pool: Object) -> None:
    pool["spec"]["targetPorts"].append({"number": 8001})
    made = pools.shadow_service(pool)
    assert made["spec"]["clusterIP"] == "None"
    assert [(item["port"], item["targetPort"]) for item in made["spec"]["ports"]] == [(54321, 8000), (54322, 8001)]
    assert made["metadata"]["ownerReferences"][0]["kind"] == "InferencePool"
    assert pools.service_differs(None, made)
    assert not pools.service_differs(made, made)
    changed = {**made, "spec": {**made["spec"], "selector": {"a": "b"}}}
    assert pools.service_differs(changed, made)


def test_endpoints_are_those_of_the_port(make: Make, snap: Snap) -> None:
    service = make("Service", "web", spec={"ports": [{"name": "http", "port": 80}, {"name": "other", "port": 81}]})
    labels = {"kubernetes.io/service-name": "web"}
    endpoints = [
        {"addresses": ["10.4.0.2"], "nodeName": "n1", "conditions": {"ready": True}},
        {"addresses": ["10.4.0.3"], "nodeName": "n2", "conditions": {"ready": False}},
        {"addresses": ["10.4.0.4"], "nodeName": "n2", "conditions": {"ready": False, "terminating": True}},
    ]
    ports = [{"name": "http", "port": 8080}, {"name": "other", "port": 8081}]
    found = make("EndpointSlice", "web-1", labels=labels, endpoints=endpoints, ports=ports)
    node = make("Node", "n1", "", labels={"topology.kubernetes.io/zone": "us-central1-a"})
    assert pools.endpoints_of(snap(service, found, node), "llm-d", "web", 80) == [
        Endpoint("10.4.0.2", 8080, "us-central1-a", "n1", True),
        Endpoint("10.4.0.3", 8080, "", "n2", False),
    ]


def test_picker_addresses_are_ready_pods(make: Make, snap: Snap, pool: Object, picker_service: Object) -> None:
    labels = {"kubernetes.io/service-name": "gaie-pattern1-epp"}
    endpoints = [
        {"addresses": ["10.4.0.5"], "conditions": {"ready": True}},
        {"addresses": ["10.4.0.6"], "conditions": {"ready": False}},
    ]
    ports = [{"name": "grpc-ext-proc", "port": 9002}, {"name": "http-metrics", "port": 9090}]
    found = make("EndpointSlice", "epp-1", labels=labels, endpoints=endpoints, ports=ports)
    picker = pools.picker_of(pool)
    assert picker is not None
    assert pools.picker_addresses(snap(picker_service, found), picker) == [("10.4.0.5", 9002)]
    assert pools.picker_addresses(snap(), picker) == []


@pytest.mark.parametrize(("mode", "expected"), [("FailOpen", True), ("FailClose", False), (None, False)])
def test_failure_mode(pool: Object, mode: str | None, expected: bool) -> None:
    pool["spec"]["endpointPickerRef"]["failureMode"] = mode
    picker = pools.picker_of(pool)
    assert picker is not None
    assert picker.fail_open is expected


def test_pool_parents(pool: Object) -> None:
    pool["status"] = {"parents": [{"parentRef": {"kind": "Status", "name": "default"}}]}
    found = pools.pool_parents(pool, [("llm-d", "gw")], True)
    assert [item["parentRef"]["name"] for item in found] == ["gw"]
    assert {item["type"]: item["status"] for item in found[0]["conditions"]} == {
        "Accepted": "True",
        "ResolvedRefs": "True",
    }
    pool["status"] = {"parents": found}
    assert pools.pool_parents(pool, [("llm-d", "gw")], True) == found
    assert pools.pool_parents(pool, [], True) == []


def test_times_change_only_with_the_status() -> None:
    old = merge([], [condition("Ready", False, "No")], moment="2026-01-01T00:00:00Z")
    same = merge(old, [condition("Ready", False, "StillNo")], moment="2026-02-01T00:00:00Z")
    assert same[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert same[0]["reason"] == "StillNo"
    other = merge(old, [condition("Ready", True, "Yes")], moment="2026-02-01T00:00:00Z")
    assert other[0]["lastTransitionTime"] == "2026-02-01T00:00:00Z"
