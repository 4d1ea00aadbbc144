from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox.gke import gateway as decisions
from sandbox.gke import routes
from sandbox.gke.conditions import status_of
from sandbox.gke.gateway import Durations, Progress
from sandbox.gke.model import CLASSES, Configuration, Listener, Match, Problem, Rule
from sandbox.gke.snapshot import Snapshot

Object = dict[str, Any]
Make = Callable[..., Object]
Snap = Callable[..., Snapshot]


EXTERNAL = CLASSES["gke-l7-regional-external-managed"]
SECONDS = Durations(programmed=100, update=40, retry=300)
EMPTY = Configuration("llm-d", "gw", EXTERNAL, (Listener("default", 80),))
ROUTED = Configuration(
    "llm-d", "gw", EXTERNAL, (Listener("default", 80, "", (Rule("llm-d/r", "t", 0, (), (Match(),), ()),)),)
)
REFUSED = Problem("gce", decisions.NO_PROXY_SUBNET)


def test_a_new_gateway_takes_its_time() -> None:
    begun = decisions.step(Progress(), "a", EMPTY, None, 0, SECONDS)
    assert begun.synced
    assert not begun.address
    assert begun.progress.live is None
    assert decisions.next_moment(begun.progress, 0) == 40
    later = decisions.step(begun.progress, "a", EMPTY, None, 41, SECONDS)
    assert later.address
    assert not later.arrived
    assert not later.synced
    done = decisions.step(later.progress, "a", EMPTY, None, 100, SECONDS)
    assert done.arrived
    assert done.progress.programmed
    assert decisions.next_moment(done.progress, 100) is None


def test_speed_zero_arrives_at_once() -> None:
    done = decisions.step(Progress(), "a", EMPTY, None, 5, Durations(0, 0, 2))
    assert done.arrived
    assert done.address


def test_a_route_that_comes_while_programming_does_not_start_the_clock_again() -> None:
    begun = decisions.step(Progress(), "a", EMPTY, None, 0, SECONDS).progress
    changed = decisions.step(begun, "b", ROUTED, None, 60, SECONDS)
    assert changed.synced
    assert changed.progress.due == 100
    assert decisions.step(changed.progress, "b", ROUTED, None, 100, SECONDS).progress.live == ROUTED


def test_a_change_of_a_live_gateway_is_an_update() -> None:
    live = Progress(handled="a", live=EMPTY)
    begun = decisions.step(live, "b", ROUTED, None, 10, SECONDS)
    assert not begun.arrived
    assert begun.address
    assert begun.progress.live == EMPTY
    assert decisions.step(begun.progress, "b", ROUTED, None, 50, SECONDS).progress.live == ROUTED


def test_any_annotation_makes_a_sync_but_changes_nothing() -> None:
    done = decisions.step(Progress(handled="a", live=EMPTY), "annotated", EMPTY, None, 10, SECONDS)
    assert done.synced
    assert done.arrived
    assert done.progress == Progress(handled="annotated", live=EMPTY, due=10, address_at=10)


def test_nothing_new_is_no_sync() -> None:
    done = decisions.step(Progress(handled="a", live=EMPTY), "a", EMPTY, None, 10, SECONDS)
    assert not done.synced
    assert not done.arrived


def test_a_refusal_is_found_at_once_and_tried_again_later_or_when_touched() -> None:
    failed = decisions.step(Progress(), "a", EMPTY, REFUSED, 0, SECONDS)
    assert failed.failed
    assert failed.progress.problem == REFUSED
    # the cause is mended, but nobody told the controller
    waiting = decisions.step(failed.progress, "a", EMPTY, None, 10, SECONDS)
    assert not waiting.synced
    assert waiting.progress.problem == REFUSED
    assert decisions.step(failed.progress, "annotated", EMPTY, None, 10, SECONDS).progress.target == EMPTY
    assert decisions.step(failed.progress, "a", EMPTY, None, 300, SECONDS).progress.target == EMPTY


def test_a_live_gateway_keeps_serving_when_a_change_is_refused() -> None:
    failed = decisions.step(Progress(handled="a", live=EMPTY), "b", ROUTED, REFUSED, 0, SECONDS)
    assert failed.progress.live == EMPTY
    assert not failed.progress.programmed


@pytest.mark.parametrize(
    ("proxy", "api", "pools", "expected"),
    [
        (True, True, True, None),
        (False, True, False, decisions.NO_PROXY_SUBNET),
        (True, False, True, decisions.NO_NETWORK_SERVICES),
        (True, False, False, None),
    ],
)
def test_what_google_cloud_refuses(proxy: bool, api: bool, pools: bool, expected: str | None) -> None:
    found = decisions.gce_problem(EMPTY, pools=pools, proxy_subnet=proxy, network_services=api, target="t")
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert expected in found.message


def test_global_classes_need_no_proxy_subnet() -> None:
    config = Configuration("llm-d", "gw", CLASSES["gke-l7-global-external-managed"], ())
    assert decisions.gce_problem(config, pools=False, proxy_subnet=False, network_services=True, target="") is None


def test_translate_problems(gateway: dict[str, Any]) -> None:
    assert decisions.translate_problem(gateway, [], lambda name: "") is None
    gateway["spec"]["addresses"] = [{"type": "IPAddress", "value": "1.2.3.4"}]
    found = decisions.translate_problem(gateway, [], lambda name: "")
    assert found is not None
    assert found.message == (
        'Error GWCER106: Gateway "llm-d/infra-pattern1-inference-gateway" is invalid, err: unsupported address type '
        '"IPAddress", only "NamedAddress" is supported.'
    )
    gateway["spec"]["addresses"] = [{"type": "NamedAddress", "value": "mine"}]
    assert decisions.translate_problem(gateway, [], lambda name: "" if name == "mine" else "no") is None
    assert decisions.translate_problem(gateway, [], lambda name: "no") is not None


def test_a_broken_route_breaks_its_gateway(snap: Snap, gateway: Object, route: Object) -> None:
    bindings = routes.bind_all(snap(gateway, route), gateway, EXTERNAL)
    found = decisions.translate_problem(gateway, bindings, lambda name: "")
    assert found is not None
    assert found.message.startswith("Error GWCER104: HTTPRoute")


def test_own_annotations_are_no_trigger(gateway: dict[str, Any]) -> None:
    before = decisions.trigger(gateway, EMPTY, None)
    gateway["metadata"]["annotations"] = {"networking.gke.io/last-reconcile-time": "now"}
    assert decisions.trigger(gateway, EMPTY, None) == before
    gateway["metadata"]["annotations"]["force-reconcile"] = "1"
    assert decisions.trigger(gateway, EMPTY, None) != before


def test_first_status(gateway: dict[str, Any]) -> None:
    found = decisions.status(gateway, Progress(), [], "")
    first = found["conditions"][0]
    assert (first["type"], first["status"], first["reason"]) == ("Scheduled", "False", "NotReconciled")
    assert first["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    assert first["message"] == "Waiting for controller"
    assert found["addresses"] == []


def test_status_of_a_programmed_gateway(gateway: dict[str, Any]) -> None:
    found = decisions.status(gateway, Progress(live=EMPTY), [], "203.0.113.1")
    names = [item["type"] for item in found["conditions"]]
    assert names == ["Scheduled", "Accepted", "Programmed", "Ready", "networking.gke.io/GatewayHealthy"]
    assert {item["status"] for item in found["conditions"]} == {"True"}
    assert found["addresses"] == [{"type": "IPAddress", "value": "203.0.113.1"}]
    gateway["status"] = found
    assert decisions.status(gateway, Progress(live=EMPTY), [], "203.0.113.1") == found


def test_status_of_a_refused_gateway(gateway: dict[str, Any]) -> None:
    found = decisions.status(gateway, Progress(problem=REFUSED), [], "")["conditions"]
    assert status_of(found, "Accepted") == "True"
    assert status_of(found, "Programmed") == status_of(found, "Ready") == "False"
    assert status_of(found, decisions.HEALTHY) == "False"
    by_type = {item["type"]: item for item in found}
    assert by_type["Programmed"]["reason"] == "Invalid"
    assert by_type["Programmed"]["message"] == f"error cause: gce: {decisions.NO_PROXY_SUBNET}"
    assert by_type[decisions.HEALTHY]["message"].startswith("Gateway: Invalid : error cause: gce: ")


def test_a_restarted_controller_goes_on(gateway: dict[str, Any]) -> None:
    assert decisions.resumed(gateway, "a", EMPTY, None, True) == Progress()
    gateway["status"] = decisions.status(gateway, Progress(live=EMPTY), [], "203.0.113.1")
    assert decisions.resumed(gateway, "a", EMPTY, None, True) == Progress(handled="a", live=EMPTY)
    assert decisions.resumed(gateway, "a", EMPTY, None, False) == Progress()
    gateway["metadata"]["generation"] = 2
    assert decisions.resumed(gateway, "a", EMPTY, None, True) == Progress(live=EMPTY)


def test_attached_routes_counts_accepted_ones(snap: Snap, gateway: Object, route: Object) -> None:
    bindings = routes.bind_all(snap(gateway, route), gateway, EXTERNAL)
    assert decisions.status(gateway, Progress(), bindings, "")["listeners"][0]["attachedRoutes"] == 1
    route["spec"]["rules"][0]["timeouts"] = {"request": "1s"}
    bindings = routes.bind_all(snap(gateway, route), gateway, EXTERNAL)
    assert decisions.status(gateway, Progress(), bindings, "")["listeners"][0]["attachedRoutes"] == 0
