from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import (
    HEALTHY,
    backend_service_refs,
    judge_gateway,
    unencrypted,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.routes import judge_route

SUBNET = "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule."
NAME = "infra-pattern1-inference-gateway"


def gateway_class(controller: str = "networking.gke.io/gateway") -> dict[str, Any]:
    return {
        "spec": {"controllerName": controller},
        "status": {"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted"}]},
    }


@pytest.fixture
def gateway(fakes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": NAME, "namespace": "llm-d", "generation": 1},
        "spec": {"gatewayClassName": "gke-l7-regional-external-managed"},
        "status": {
            "addresses": [{"type": "IPAddress", "value": "203.0.113.7"}],
            "conditions": [
                fakes.condition("Accepted", "True"),
                fakes.condition("Programmed", "True"),
                fakes.condition(HEALTHY, "True", "Healthy"),
            ],
        },
    }


def refuse(gateway: dict[str, Any], fakes: Any, message: str = "not yet") -> None:
    gateway["status"]["conditions"] = [
        fakes.condition("Accepted", "True"),
        fakes.condition("Programmed", "False", "Invalid", message),
        fakes.condition(HEALTHY, "False", "Error", message),
    ]


def test_a_healthy_gateway_is_ready(gateway: dict[str, Any]) -> None:
    verdict = judge_gateway(gateway, [], gateway_class(), "llm-d/g")
    assert verdict.ready
    assert verdict.address == "203.0.113.7"


def test_an_address_alone_is_not_enough(gateway: dict[str, Any], fakes: Any) -> None:
    gateway["status"]["conditions"] = [fakes.condition("Accepted", "True"), fakes.condition("Programmed", "True")]
    verdict = judge_gateway(gateway, [], gateway_class(), "llm-d/g")
    assert not verdict.ready
    assert verdict.problem is None
    assert "GatewayHealthy not reported yet" in verdict.detail


@pytest.mark.parametrize(
    ("message", "code", "fatal"),
    [
        (f'failed to translate Gateway "llm-d/g": {SUBNET}', "PROXY_ONLY_SUBNET_MISSING", True),
        ("generic::failed: NetworkServices API is not enabled", "NETWORK_SERVICES_API_DISABLED", True),
        (
            'Error GWCER106: Gateway "llm-d/g" is invalid, err: unsupported address type "IPAddress"',
            "GATEWAY_ADDRESS_UNSUITABLE",
            True,
        ),
        ('Error GWCER106: Gateway "llm-d/g" is invalid, err: listener', "GATEWAY_INVALID", True),
        ("error cause: reference-not-found: Error GWCER104: HTTPRoute", "ROUTE_BACKEND_NOT_FOUND", False),
        ("googleapi: Error 403: Quota 'IN_USE_ADDRESSES' exceeded", "QUOTA_EXCEEDED", True),
        ("Required 'compute.firewalls.create' permission for 'projects/p'", "FIREWALL_DENIED", True),
        ("The resource 'x' is not ready (RESOURCE_NOT_READY)", "GATEWAY_NOT_READY_YET", False),
        ("something new", "GATEWAY_INVALID", False),
    ],
)
def test_the_controllers_newest_warning_names_the_cause(
    gateway: dict[str, Any], fakes: Any, message: str, code: str, fatal: bool
) -> None:
    refuse(gateway, fakes)
    older = fakes.event("g", SUBNET, kind="Gateway", at="08:00:00")
    verdict = judge_gateway(
        gateway, [older, fakes.event("g", message, kind="Gateway", at="09:00:00")], gateway_class(), "llm-d/g"
    )
    assert verdict.problem is not None
    if code == "GATEWAY_INVALID" and message == "something new":
        assert verdict.problem.code == "PROXY_ONLY_SUBNET_MISSING"  # the older one still stands and is known
        return
    assert verdict.problem.code == code
    assert verdict.problem.fatal is fatal
    assert verdict.problem.why == message
    assert verdict.problem.remedy


def test_a_condition_message_names_the_cause_where_events_are_gone(gateway: dict[str, Any], fakes: Any) -> None:
    refuse(gateway, fakes, f"error cause: gce: {SUBNET}")
    problem = judge_gateway(gateway, [], gateway_class(), "llm-d/g").problem
    assert problem is not None
    assert problem.code == "PROXY_ONLY_SUBNET_MISSING"


def test_unknown_words_are_kept(gateway: dict[str, Any], fakes: Any) -> None:
    refuse(gateway, fakes, "the moon is full")
    problem = judge_gateway(gateway, [], gateway_class(), "llm-d/g").problem
    assert problem is not None
    assert problem.code == "GATEWAY_INVALID"
    assert "the moon is full" in problem.why


@pytest.mark.parametrize(
    ("klass", "code"),
    [(None, "GATEWAY_CLASS_MISSING"), (gateway_class("istio.io/gateway-controller"), "GATEWAY_CLASS_FOREIGN")],
)
def test_a_class_that_is_not_gkes_says_nothing(
    gateway: dict[str, Any], klass: dict[str, Any] | None, code: str
) -> None:
    verdict = judge_gateway(gateway, [], klass, "llm-d/g")
    assert not verdict.ready
    assert verdict.problem is not None
    assert verdict.problem.code == code


def test_a_missing_gateway_is_said() -> None:
    problem = judge_gateway(None, [], None, "llm-d/g").problem
    assert problem is not None
    assert problem.code == "GATEWAY_MISSING"


def test_backend_services_come_from_the_annotation() -> None:
    value = "/projects/1/regions/r/backendServices/a, /projects/1/regions/r/backendServices/b"
    gateway = {"metadata": {"annotations": {"networking.gke.io/backend-services": value}}}
    assert [ref.rsplit("/", 1)[-1] for ref in backend_service_refs(gateway)] == ["a", "b"]
    assert backend_service_refs({}) == []


def route(*conditions: dict[str, Any], rules: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    ref = {"name": NAME, "group": "gateway.networking.k8s.io", "kind": "Gateway"}
    parents = [{"controllerName": "networking.gke.io/gateway", "parentRef": ref, "conditions": list(conditions)}]
    return {
        "metadata": {"name": "r", "namespace": "llm-d", "generation": 1},
        "spec": {"parentRefs": [ref], "rules": rules or []},
        "status": {"parents": parents if conditions else []},
    }


def judged(found: dict[str, Any] | None, events: list[dict[str, Any]] | None = None) -> Any:
    return judge_route(found, events or [], "r", NAME, "llm-d")


def test_a_bound_route_is_ready(fakes: Any) -> None:
    found = route(*(fakes.condition(name, "True") for name in ("Accepted", "ResolvedRefs", "Reconciled")))
    assert judged(found).ready


def test_timeouts_are_refused_and_the_remedy_says_so(fakes: Any) -> None:
    refused = fakes.condition("Accepted", "False", "UnsupportedValue", "timeouts is not supported")
    verdict = judged(route(refused, rules=[{"timeouts": {"request": "300s"}}]))
    assert verdict.problem.code == "ROUTE_REJECTED"
    assert verdict.problem.fatal
    assert "timeouts" in verdict.problem.remedy


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("True", "False", "False"), "ROUTE_BACKEND_NOT_FOUND"),
        (("True", "True", "False"), "ROUTE_NOT_RECONCILED"),
    ],
)
def test_the_first_failing_condition_names_the_problem(fakes: Any, states: tuple[str, ...], code: str) -> None:
    names = ("Accepted", "ResolvedRefs", "Reconciled")
    found = route(*(fakes.condition(name, state, "X") for name, state in zip(names, states, strict=True)))
    assert judged(found).problem.code == code


def test_a_route_nobody_looked_at_is_no_failure() -> None:
    verdict = judged(route())
    assert not verdict.ready
    assert verdict.problem is None


def test_missing_and_misdirected_routes_are_named() -> None:
    assert judged(None).problem.code == "ROUTE_MISSING"
    other = route()
    other["spec"]["parentRefs"][0]["name"] = "other"
    assert judged(other).problem.code == "ROUTE_PARENT_MISMATCH"


@pytest.mark.parametrize(
    ("name", "listeners", "warned"),
    [
        ("gke-l7-regional-external-managed", ["HTTP"], True),
        ("gke-l7-gxlb", ["HTTP"], True),
        ("gke-l7-regional-external-managed", ["HTTPS"], False),
        ("gke-l7-regional-external-managed", ["HTTP", "HTTPS"], False),  # port 80 only leads over
        ("gke-l7-rilb", ["HTTP"], False),
        ("gke-l7-cross-regional-internal-managed-mc", ["HTTP"], False),
        ("istio", ["HTTP"], False),  # whose addresses are not ours to judge
    ],
)
def test_a_public_endpoint_without_encryption_is_warned_of(
    gateway: dict[str, Any], name: str, listeners: list[str], warned: bool
) -> None:
    gateway["spec"] = {"gatewayClassName": name, "listeners": [{"protocol": one} for one in listeners]}
    text = unencrypted(gateway)
    assert bool(text) is warned
    assert not warned or ("http://203.0.113.7" in text and "llmd_tls" in text)


def test_a_gateway_that_is_not_there_yet_is_no_public_endpoint() -> None:
    assert unencrypted({}) == ""
