from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.deadlocks import may_be_missing, upgrade_deadlock

WORDS = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def deployment(replicas: int | None = 1, **strategy: Any) -> dict[str, Any]:
    spec = {"replicas": replicas, **({"strategy": strategy} if strategy else {})}
    return {"kind": "Deployment", "metadata": {"name": "ms", "namespace": "llm-d"}, "spec": spec}


def pod(name: str, revision: str, ready: bool, words: str = WORDS, gpu: bool = True) -> dict[str, Any]:
    states = {"Ready": "True", "PodScheduled": "True"} if ready else {"PodScheduled": "False"}
    limits = {"nvidia.com/gpu": "1"} if gpu else {}
    return {
        "metadata": {"name": name, "namespace": "llm-d", "labels": {"pod-template-hash": revision}},
        "spec": {"containers": [{"resources": {"limits": limits}}]},
        "status": {"conditions": [{"type": t, "status": s, "message": words} for t, s in states.items()]},
    }


OLD, NEW = pod("old", "a", True), pod("new", "b", False)


def test_one_replica_on_one_gpu_waits_for_itself() -> None:
    problem = upgrade_deadlock(deployment(), [OLD, NEW])
    assert problem is not None
    assert problem.code == "GPU_UPGRADE_DEADLOCK"
    assert problem.fatal
    assert "llm-d/new waits" in problem.why
    assert "llm-d/old keeps its GPU" in problem.why


@pytest.mark.parametrize(
    ("workload", "pods"),
    [
        (deployment(type="Recreate"), [OLD, NEW]),  # the old pod goes first by itself
        (deployment(type="RollingUpdate", rollingUpdate={"maxUnavailable": 1}), [OLD, NEW]),
        (deployment(4), [OLD, pod("o2", "a", True), pod("o3", "a", True), pod("o4", "a", True), NEW]),
        (deployment(), [pod("new", "a", False), OLD]),  # the same revision: simply too few GPUs
        (deployment(), [NEW]),  # nobody serves
        (deployment(), [pod("old", "a", True, gpu=False), NEW]),  # the old pod keeps no GPU
        (deployment(), [OLD, pod("new", "b", False, "0/3 nodes are available: 3 Insufficient cpu.")]),
        ({**deployment(), "kind": "StatefulSet"}, [OLD, NEW]),
    ],
)
def test_what_is_no_deadlock(workload: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    assert upgrade_deadlock(workload, pods) is None


def test_a_node_that_is_being_bought_ends_it(fakes: Any) -> None:
    growing = fakes.event("new", "pod triggered scale-up", kind="Pod", type_="Normal", reason="TriggeredScaleUp")
    problem = upgrade_deadlock(deployment(), [OLD, NEW], [growing])
    assert problem is not None
    assert not problem.fatal
    assert "scale-up" in problem.why


@pytest.mark.parametrize(
    ("workload", "missing"),
    [
        (deployment(1), 0),
        (deployment(None), 0),
        (deployment(4), 1),
        (deployment(7), 1),
        (deployment(2, rollingUpdate={"maxUnavailable": "50%"}), 1),
        (deployment(3, type="Recreate"), 3),
    ],
)
def test_shares_are_rounded_down(workload: dict[str, Any], missing: int) -> None:
    assert may_be_missing(workload) == missing
