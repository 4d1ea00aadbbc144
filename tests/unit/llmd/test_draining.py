from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT
from ansible_collections.llmd.gke.plugins.module_utils.llmd.draining import Leaving, leaving, wait_ended
from ansible_collections.llmd.gke.plugins.module_utils.llmd.rollouts import Ref

PODS = "/api/v1/namespaces/llm-d/pods/"
DEPLOY = "/apis/apps/v1/namespaces/llm-d/deployments/ms"
REFS = [Ref(DEPLOYMENT, "ms", "llm-d"), Ref(DEPLOYMENT, "gone", "llm-d")]


def pod(name: str, *, told: bool = False, phase: str = "Running", grace: int | None = 60) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "llm-d", "labels": {"app": "ms"}}
    if told:
        metadata["deletionTimestamp"] = "2026-11-27T20:00:00Z"
    spec = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


@pytest.fixture
def world(api: Any) -> Any:
    api.put(DEPLOY, {"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "ms"}}}, "status": {}})
    return api


def test_pods_that_have_to_go() -> None:
    two = {"kind": "Deployment", "spec": {"replicas": 1}}
    pods = [pod("a"), pod("b"), pod("c", told=True, grace=None), pod("d", told=True, phase="Succeeded")]
    assert leaving(two, pods) == [Leaving("llm-d/c", 30), Leaving("llm-d/b", 60)]
    # Nodes of a group are no replicas: only those that were told count.
    group = {"kind": "LeaderWorkerSet", "spec": {"replicas": 1}}
    assert leaving(group, [pod("a"), pod("b"), pod("c", told=True)]) == [Leaving("llm-d/c", 60)]


def test_it_waits_until_the_last_has_ended(world: Any, client: Any, clock: Any) -> None:
    world.put(PODS + "a", pod("a"))  # nobody has told it yet
    clock.at(2, lambda: world.put(PODS + "a", pod("a", told=True)))
    clock.at(41, lambda: world.objects.pop(PODS + "a"))
    assert wait_ended(client, REFS, 600, clock=clock) == []
    assert 41 <= clock.now() - 1000 <= 42


def test_nothing_to_wait_for_costs_one_look(world: Any, client: Any, clock: Any) -> None:
    assert wait_ended(client, REFS, 600, clock=clock) == []
    assert clock.now() == 1000


def test_a_pod_whose_node_is_gone_holds_nothing_up(world: Any, client: Any, clock: Any) -> None:
    world.put(PODS + "a", pod("a", told=True, grace=60))
    world.put(PODS + "b", pod("b", told=True, grace=200))
    clock.at(120, lambda: world.objects.pop(PODS + "b"))
    assert wait_ended(client, REFS, 600, clock=clock) == ["llm-d/a"]
    assert 120 <= clock.now() - 1000 <= 121


def test_the_whole_wait_has_an_end(world: Any, client: Any, clock: Any) -> None:
    world.put(PODS + "a", pod("a", told=True, grace=9000))
    with pytest.raises(WaitTimeout, match="Requests under way answered"):
        wait_ended(client, REFS, 10, clock=clock)
