from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.gke import routes
from sandbox.gke.conditions import status_of
from sandbox.gke.model import CLASSES, CONTROLLER
from sandbox.gke.snapshot import Snapshot

Object = dict[str, Any]
Make = Callable[..., Object]
Snap = Callable[..., Snapshot]


EXTERNAL = CLASSES["gke-l7-regional-external-managed"]


def bind(snapshot: Any, gateway: Any, klass: Any = EXTERNAL) -> routes.Binding:
    found = routes.bind_all(snapshot, gateway, klass)
    assert len(found) == 1
    return found[0]


def states(binding: routes.Binding, reconciled: bool = False, problem: str = "") -> dict[str, tuple[str, str]]:
    wanted = routes.parent_conditions(binding, reconciled, problem)
    return {item["type"]: (item["status"], item["reason"]) for item in wanted}


def test_a_good_route_resolves_to_its_pool(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object, model_pod: Object
) -> None:
    binding = bind(snap(gateway, route, pool, picker_service, model_pod), gateway)
    assert binding.accepted is None
    assert binding.resolved is None
    assert binding.listeners == ("default",)
    ((backend, weight),) = binding.rules[0].backends
    assert (backend.kind, backend.name, backend.port, weight) == ("InferencePool", "gaie-pattern1", 54321, 1)
    assert backend.picker is not None
    assert (backend.picker.service, backend.picker.port, backend.picker.fail_open) == ("gaie-pattern1-epp", 9002, False)
    assert "Reconciled" not in states(binding)
    assert states(binding, reconciled=True)["Reconciled"] == ("True", "ReconciliationSucceeded")


def test_the_port_of_a_pool_reference_is_ignored(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object, model_pod: Object
) -> None:
    route["spec"]["rules"][0]["backendRefs"][0]["port"] = 1234
    binding = bind(snap(gateway, route, pool, picker_service, model_pod), gateway)
    assert binding.rules[0].backends[0][0].port == 54321


def test_timeouts_are_refused(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object, model_pod: Object
) -> None:
    route["spec"]["rules"][0]["timeouts"] = {"request": "300s"}
    found = states(bind(snap(gateway, route, pool, picker_service, model_pod), gateway))
    assert found["Accepted"] == ("False", "UnsupportedValue")
    assert found["Reconciled"][0] == "False"


def test_a_missing_pool_is_not_resolved(snap: Snap, gateway: Object, route: Object) -> None:
    binding = bind(snap(gateway, route), gateway)
    found = states(binding)
    assert found["Accepted"] == ("True", "Accepted")
    assert found["ResolvedRefs"] == ("False", "BackendNotFound")
    assert binding.resolved is not None
    assert "GWCER104" in binding.resolved.message


def test_a_missing_picker_service_is_not_resolved(
    snap: Snap, gateway: Object, route: Object, pool: Object, model_pod: Object
) -> None:
    binding = bind(snap(gateway, route, pool, model_pod), gateway)
    assert binding.resolved is not None
    assert binding.resolved.message == (
        'error cause: reference-not-found: Error GWCER104: HTTPRoute "llm-d/llm-d-pattern1" is misconfigured, err: '
        "failed to validate inference pool extension ref: InferencePool extension service gaie-pattern1-epp not found."
    )


def test_without_pods_a_route_is_accepted_but_not_reconciled(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object
) -> None:
    found = states(bind(snap(gateway, route, pool, picker_service), gateway))
    assert found["Accepted"][0] == found["ResolvedRefs"][0] == "True"
    assert found["Reconciled"] == ("False", "ReconciliationFailed")


def test_a_route_that_serves_stays_when_its_pods_go(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object
) -> None:
    binding = bind(snap(gateway, route, pool, picker_service), gateway)
    assert not routes.listeners_with_rules(gateway, [binding], set())[0].rules
    assert routes.listeners_with_rules(gateway, [binding], {"llm-d/llm-d-pattern1"})[0].rules


def test_a_class_without_inference_refuses_pools(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object
) -> None:
    binding = bind(snap(gateway, route, pool, picker_service), gateway, CLASSES["gke-l7-gxlb"])
    assert binding.resolved is not None
    assert binding.resolved.reason == "InvalidKind"


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"sectionName": "nope"}, "NoMatchingParent"),
        ({"port": 81}, "NoMatchingParent"),
        ({"sectionName": "default"}, None),
    ],
)
def test_parent_references_choose_listeners(
    snap: Snap, gateway: Object, route: Object, ref: Object, reason: str | None
) -> None:
    route["spec"]["parentRefs"][0].update(ref)
    binding = bind(snap(gateway, route), gateway)
    assert (binding.accepted.reason if binding.accepted else None) == reason


@pytest.mark.parametrize(
    ("allowed", "labels", "expected"),
    [
        ({"from": "Same"}, {}, False),
        ({"from": "All"}, {}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}, {"team": "a"}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}, {"team": "b"}, False),
        (
            {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}},
            {"team": "b"},
            True,
        ),
    ],
)
def test_allowed_routes(
    make: Make, snap: Snap, gateway: Object, route: Object, allowed: Object, labels: Object, expected: bool
) -> None:
    other = copy.deepcopy(route)
    other["metadata"]["namespace"] = "other"
    other["spec"]["parentRefs"][0]["namespace"] = "llm-d"
    gateway["spec"]["listeners"][0]["allowedRoutes"] = {"namespaces": allowed}
    binding = bind(snap(make("Namespace", "other", "", labels=labels), gateway, other), gateway)
    assert (binding.accepted is None) is expected
    if not expected:
        assert binding.accepted is not None
        assert binding.accepted.reason == "NotAllowedByListeners"


@pytest.mark.parametrize(
    ("listener", "wanted", "expected"),
    [
        ("", [], ["*"]),
        ("a.example.com", [], ["a.example.com"]),
        ("", ["a.example.com"], ["a.example.com"]),
        ("*.example.com", ["a.example.com", "b.org"], ["a.example.com"]),
        ("a.example.com", ["*.example.com"], ["a.example.com"]),
        ("a.example.com", ["b.example.com"], []),
        ("*.example.com", ["example.com"], []),
    ],
)
def test_hostnames_in_common(listener: str, wanted: list[str], expected: list[str]) -> None:
    assert routes.intersect(listener, wanted) == expected


def test_services_need_their_port(make: Make, snap: Snap, gateway: Object, route: Object) -> None:
    route["spec"]["rules"][0]["backendRefs"] = [{"name": "web", "port": 81}]
    service = make("Service", "web", spec={"ports": [{"port": 80}]})
    binding = bind(snap(gateway, route, service), gateway)
    assert binding.resolved is not None
    assert binding.resolved.reason == "BackendNotFound"
    route["spec"]["rules"][0]["backendRefs"][0]["port"] = 80
    assert bind(snap(gateway, route, service), gateway).resolved is None


def test_other_namespaces_need_a_grant(make: Make, snap: Snap, gateway: Object, route: Object) -> None:
    route["spec"]["rules"][0]["backendRefs"] = [{"name": "web", "namespace": "web", "port": 80}]
    service = make("Service", "web", "web", spec={"ports": [{"port": 80}]})
    refused = bind(snap(gateway, route, service), gateway)
    assert refused.resolved is not None
    assert refused.resolved.reason == "RefNotPermitted"
    sources = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "llm-d"}]
    grant = make("ReferenceGrant", "g", "web", spec={"from": sources, "to": [{"group": "", "kind": "Service"}]})
    assert bind(snap(gateway, route, service, grant), gateway).resolved is None


def test_other_controllers_parents_are_kept(route: dict[str, Any]) -> None:
    ref = route["spec"]["parentRefs"][0]
    foreign = {"controllerName": "example.com/other", "parentRef": ref, "conditions": []}
    stale = {"controllerName": CONTROLLER, "parentRef": {"name": "gone"}, "conditions": []}
    route["status"] = {"parents": [foreign, stale]}
    found = routes.parents_status(route, [])
    assert found == [foreign]


def test_reconciled_is_kept_until_something_new_is_known(
    snap: Snap, gateway: Object, route: Object, pool: Object, picker_service: Object, model_pod: Object
) -> None:
    binding = bind(snap(gateway, route, pool, picker_service, model_pod), gateway)
    done = routes.parents_status(route, [(binding.ref, routes.parent_conditions(binding, True, ""))])
    route["status"] = {"parents": done}
    again = routes.parents_status(route, [(binding.ref, routes.parent_conditions(binding, False, ""))])
    assert status_of(again[0]["conditions"], "Reconciled") == "True"
    assert again == done
