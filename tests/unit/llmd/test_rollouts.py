from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT
from ansible_collections.llmd.gke.plugins.module_utils.llmd.rollouts import Ref, Waiter, references

POD = "/api/v1/namespaces/llm-d/pods/ms-1"
DEPLOY = "/apis/apps/v1/namespaces/llm-d/deployments/ms"
REF = Ref(DEPLOYMENT, "ms", "llm-d")


@pytest.fixture
def world(api: Any) -> Any:
    api.put(DEPLOY, {"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "ms"}}}, "status": {}})
    return api


def put_pod(world: Any, status: dict[str, Any]) -> None:
    status.setdefault("conditions", [{"type": "PodScheduled", "status": "True"}])
    world.put(POD, {"metadata": {"labels": {"app": "ms"}}, "status": status})


def crashing(restarts: int, waiting: bool) -> dict[str, Any]:
    state = {"waiting": {"reason": "CrashLoopBackOff"}} if waiting else {"running": {}}
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    return {"containerStatuses": [{"name": "vllm", "restartCount": restarts, "state": state, "lastState": ended}]}


def test_a_crash_loop_is_one_failure_even_while_the_container_runs_in_between(
    world: Any, client: Any, clock: Any
) -> None:
    world.texts[f"{POD}/log?previous"] = "torch.OutOfMemoryError: CUDA out of memory."
    put_pod(world, crashing(1, waiting=True))
    for second in range(6, 60, 6):
        clock.at(second, lambda second=second: put_pod(world, crashing(1 + second // 6, waiting=second % 12 == 0)))
    with pytest.raises(LlmdError) as caught:
        Waiter(client, 45, clock).wait([REF], 600)
    assert caught.value.code == "GPU_OUT_OF_MEMORY"
    assert "OutOfMemoryError" in caught.value.why
    assert clock.now() - 1000 <= 48


def test_a_log_is_read_once_a_crash(world: Any, client: Any, clock: Any) -> None:
    put_pod(world, crashing(1, waiting=True))
    with pytest.raises(LlmdError):
        Waiter(client, 20, clock).wait([REF], 30)
    assert sum("/log" in path for _method, path, _body in world.requests) == 1


def test_a_missing_gpu_is_given_longer_than_other_failures(world: Any, client: Any, clock: Any) -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    put_pod(
        world,
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]},
    )
    with pytest.raises(LlmdError) as caught:
        Waiter(client, 45, clock).wait([REF], 900)
    assert caught.value.code == "GPU_UNAVAILABLE"
    assert caught.value.why == message
    assert 270 <= clock.now() - 1000 <= 275


def one_gpu_update(world: Any) -> None:
    """One replica, one GPU: the old pod serves, the new one finds no GPU."""
    for name, revision, states in (
        ("ms-old", "a", {"Ready": "True", "PodScheduled": "True"}),
        ("ms-new", "b", {"PodScheduled": "False"}),
    ):
        message = "" if revision == "a" else "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        world.put(
            f"/api/v1/namespaces/llm-d/pods/{name}",
            {
                "metadata": {"labels": {"app": "ms", "pod-template-hash": revision}},
                "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
                "status": {
                    "conditions": [{"type": t, "status": status, "message": message} for t, status in states.items()]
                },
            },
        )
    status = {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    world.objects[DEPLOY].update(status=status)


def test_an_update_that_waits_for_its_own_old_pod_ends_early(world: Any, client: Any, clock: Any) -> None:
    one_gpu_update(world)
    with pytest.raises(LlmdError) as caught:
        Waiter(client, 45, clock).wait([REF], 900)
    assert caught.value.code == "GPU_UPGRADE_DEADLOCK"
    assert "ms-old keeps its GPU" in caught.value.why
    assert 45 <= clock.now() - 1000 <= 50


def test_an_update_for_which_a_node_is_being_bought_is_waited_for(
    world: Any, fakes: Any, client: Any, clock: Any
) -> None:
    one_gpu_update(world)
    growing = fakes.event("ms-new", "pod triggered scale-up", kind="Pod", type_="Normal", reason="TriggeredScaleUp")
    world.put("/api/v1/namespaces/llm-d/events/e", growing)
    clock.at(300, lambda: world.objects[DEPLOY].update(status={"updatedReplicas": 1, "availableReplicas": 1}))
    assert Waiter(client, 45, clock).wait([REF], 900)[0].done


def test_a_pod_that_comes_right_is_no_failure(world: Any, client: Any, clock: Any) -> None:
    put_pod(world, crashing(1, waiting=True))
    clock.at(40, lambda: world.objects[DEPLOY].update(status={"updatedReplicas": 1, "availableReplicas": 1}))
    looks = Waiter(client, 45, clock).wait([REF], 600)
    assert looks[0].done


def test_refused_pods_are_told_by_the_replica_sets_event(world: Any, fakes: Any, client: Any, clock: Any) -> None:
    refused = fakes.event(
        "ms-6f7", "no PriorityClass with name nightly was found", kind="ReplicaSet", reason="FailedCreate"
    )
    world.put("/api/v1/namespaces/llm-d/events/e", refused)
    with pytest.raises(LlmdError) as caught:
        Waiter(client, 45, clock).wait([REF], 600)
    assert caught.value.code == "POD_REFUSED"
    assert "PriorityClass" in caught.value.why


def test_only_known_kinds_are_followed() -> None:
    manifest = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: x/v1\nkind: Thing\nmetadata: {name: b}\n"  # noqa: E501
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: c}\n"
    )
    assert [ref.say() for ref in references(manifest, "llm-d")] == ["Deployment llm-d/a", "ClusterRole c"]
