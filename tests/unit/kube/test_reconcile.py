from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.reconcile import Reconciler, Target

GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/llm-d/gateways/g"
CLASS = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gke-l7-rilb"
EVENT = "/api/v1/namespaces/llm-d/events/"
HEALTHY = "networking.gke.io/GatewayHealthy"
SUBNET = "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule."


@pytest.fixture
def world(api: Any, fakes: Any) -> Any:
    api.put(
        CLASS,
        {
            "spec": {"controllerName": "networking.gke.io/gateway"},
            "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
        },
    )
    api.put(GATEWAY, {"metadata": {"generation": 1}, "spec": {"gatewayClassName": "gke-l7-rilb"}, "status": {}})
    return api


def programme(world: Any, fakes: Any, status: str = "True") -> None:
    reason = "Programmed" if status == "True" else "Invalid"
    world.objects[GATEWAY]["status"] = {
        "addresses": [{"value": "10.128.0.9"}],
        "conditions": [
            fakes.condition("Accepted", "True"),
            fakes.condition("Programmed", status, reason),
            fakes.condition(HEALTHY, status),
        ],
    }


def nudges(world: Any) -> int:
    return sum(1 for method, _path, _body in world.writes() if method == "patch")


def test_a_healthy_gateway_is_left_alone(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    programme(world, fakes)
    outcome = Reconciler(client, Target("g", "llm-d"), clock).run()
    assert outcome.state.ready
    assert world.writes() == []
    assert len(world.requests) == 2


def test_one_nudge_then_wait(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    clock.at(60, lambda: programme(world, fakes))
    outcome = Reconciler(client, Target("g", "llm-d"), clock).run()
    assert outcome.state.ready
    assert outcome.nudged == 1
    assert world.objects[GATEWAY]["metadata"]["annotations"]["force-reconcile"] == outcome.after
    assert clock.now() - 1000 < 63  # seen within one interval


def test_never_means_never(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    clock.at(60, lambda: programme(world, fakes))
    assert Reconciler(client, Target("g", "llm-d", reconcile="never"), clock).run().nudged == 0
    assert world.writes() == []


def test_always_waits_until_the_controller_has_looked_again(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    programme(world, fakes)
    annotations = world.objects[GATEWAY]["metadata"].setdefault("annotations", {})
    annotations["networking.gke.io/last-reconcile-time"] = "1"
    clock.at(10, lambda: annotations.update({"networking.gke.io/last-reconcile-time": "2"}))
    outcome = Reconciler(client, Target("g", "llm-d", reconcile="always"), clock).run()
    assert outcome.nudged == 1
    assert 10 <= clock.now() - 1000 <= 12


def test_check_mode_predicts_and_writes_nothing(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    outcome = Reconciler(client, Target("g", "llm-d"), clock).run(check_mode=True)
    assert outcome.nudged == 1
    assert outcome.after
    assert world.writes() == []
    programme(world, fakes)
    assert Reconciler(client, Target("g", "llm-d"), clock).run(check_mode=True).nudged == 0


def test_a_missing_subnet_ends_the_wait_once_it_is_seen_steadily(
    world: Any, fakes: Any, client: Any, clock: Any
) -> None:
    programme(world, fakes, "False")
    world.put(EVENT + "e1", fakes.event("g", SUBNET, kind="Gateway"))
    with pytest.raises(LlmdError) as caught:
        Reconciler(client, Target("g", "llm-d", timeout=600, grace=90), clock).run()
    assert caught.value.code == "PROXY_ONLY_SUBNET_MISSING"
    assert caught.value.why == SUBNET
    assert caught.value.evidence["events"][0]["message"] == SUBNET
    assert 90 <= clock.now() - 1000 <= 92
    assert nudges(world) == 2  # once more at half time, since the controller had not tried again


def test_a_fresh_failure_after_the_nudge_ends_it_sooner(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    programme(world, fakes, "False")
    world.put(EVENT + "e1", fakes.event("g", SUBNET, kind="Gateway", at="10:00:00"))
    clock.at(6, lambda: world.put(EVENT + "e2", fakes.event("g", SUBNET, kind="Gateway", at="10:05:00")))
    with pytest.raises(LlmdError):
        Reconciler(client, Target("g", "llm-d", grace=90), clock).run()
    assert clock.now() - 1000 < 35


def test_what_comes_right_in_the_grace_is_no_failure(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    programme(world, fakes, "False")
    world.put(EVENT + "e1", fakes.event("g", SUBNET, kind="Gateway"))
    clock.at(80, lambda: programme(world, fakes))
    assert Reconciler(client, Target("g", "llm-d", grace=90), clock).run().state.ready


def test_passing_api_trouble_does_not_end_the_wait(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    clock.at(20, lambda: world.trouble.extend([fakes.Refusal(503, "etcd leader changed"), OSError("reset")]))
    clock.at(40, lambda: programme(world, fakes))
    assert Reconciler(client, Target("g", "llm-d"), clock).run().state.ready


def test_a_refusal_does_end_it(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    clock.at(20, lambda: world.trouble.append(fakes.Refusal(401, "Unauthorized")))
    with pytest.raises(LlmdError) as caught:
        Reconciler(client, Target("g", "llm-d"), clock).run()
    assert caught.value.code == "CLUSTER_TOKEN_EXPIRED"


def test_a_timeout_without_words_says_what_was_seen(world: Any, client: Any, clock: Any) -> None:
    with pytest.raises(LlmdError) as caught:
        Reconciler(client, Target("g", "llm-d", timeout=30), clock).run()
    assert caught.value.code == "GATEWAY_NOT_PROGRAMMED"
    assert "first look" in caught.value.why


def test_the_module_says_it_in_json(world: Any, fakes: Any, client: Any, capfd: Any, monkeypatch: Any) -> None:
    from ansible_collections.llmd.gke.plugins.modules import gateway_reconcile

    programme(world, fakes)
    monkeypatch.setattr(gateway_reconcile, "client_from_params", lambda params: client)
    result = fakes.run_module("gateway_reconcile", capfd, {"name": "g", "namespace": "llm-d"})
    assert result["changed"] is False
    assert result["address"] == "10.128.0.9"
    programme(world, fakes, "False")
    world.put(EVENT + "e1", fakes.event("g", SUBNET, kind="Gateway"))
    params = {"name": "g", "namespace": "llm-d", "timeout": 0, "reconcile": "never"}
    result = fakes.run_module("gateway_reconcile", capfd, params)
    assert result["failed"]
    assert result["error"]["code"] == "PROXY_ONLY_SUBNET_MISSING"
    assert "192.168.0.0/23" in result["msg"]
