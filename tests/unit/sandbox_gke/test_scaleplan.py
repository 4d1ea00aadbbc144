"""What the stand-in for the cluster autoscaler decides."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sandbox.gcp.backend import NodeSpec
from sandbox.gcp.scaling import ScalingPool
from sandbox.gke import scaleplan, scheduling
from sandbox.gke.scheduling import GPU, Node

TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
ZONE = "us-central1-a"


def pool(name: str = "gpu", *, nodes: int = 1, high: int = 3, gpus: int = 1, **more: Any) -> ScalingPool:
    labels = {"cloud.google.com/gke-nodepool": name}
    taints = [TAINT] if gpus else []
    spec = NodeSpec(f"template-of-{name}", name, ZONE, "n1-standard-4", labels, taints, gpus)
    defaults: dict[str, Any] = {
        "low": 0,
        "targets": {ZONE: nodes},
        "nodes": {f"{name}-{number}": ZONE for number in range(nodes)},
        "groups": {ZONE: f"groups/{name}-grp"},
    }
    return ScalingPool(name, spec, high=high, **(defaults | more))


def pod(name: str = "ms-0", *, gpus: int = 1, cpu: str = "100m", node: str = "", owner: str = "ReplicaSet") -> Any:
    requests = {"cpu": cpu, **({GPU: str(gpus)} if gpus else {})}
    tolerations = [{"key": GPU, "operator": "Exists"}] if gpus else []
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {
        "metadata": {
            "name": name,
            "namespace": "llm-d",
            "uid": name,
            "ownerReferences": [{"kind": owner, "name": "x", "controller": True}] if owner else [],
        },
        "spec": {
            "containers": [{"resources": {"requests": requests}}],
            "tolerations": tolerations,
            **({"nodeName": node} if node else {}),
        },
        "status": {"phase": "Pending", "conditions": [condition]},
    }


def live(name: str, gpus: int = 1, taints: list[dict[str, str]] | None = None) -> Any:
    allocatable = {"cpu": "3920m", "memory": "12Gi", "pods": "110", **({GPU: str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name, "labels": {}},
        "spec": {"taints": [TAINT] if gpus and taints is None else taints or []},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), ("10Gi", 10 * 2**30), ("1e3", 1000), ("3920m", 3.92), (4, 4)]
)
def test_quantities(text: object, value: float) -> None:
    assert scheduling.quantity(text) == pytest.approx(value)


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantity"):
        scheduling.quantity("ten")


def test_two_pods_that_wait_for_a_gpu_get_two_nodes() -> None:
    plan = scaleplan.plan_growth([pod("a"), pod("b")], [], [pool()], {})
    (growth,) = plan.growths
    assert (growth.pool, growth.zone, growth.count) == ("gpu", ZONE, 2)
    assert growth.say() == "groups/gpu-grp 1->3 (max: 3)"
    assert [found["metadata"]["name"] for found in growth.pods] == ["a", "b"]
    assert plan.refused == []


def test_what_fits_on_a_node_that_is_coming_needs_no_other() -> None:
    assert scaleplan.plan_growth([pod("a")], [], [pool()], {"gpu": 1}).growths == []
    assert scaleplan.plan_growth([pod("a"), pod("b")], [], [pool()], {"gpu": 1}).growths[0].count == 1


def test_a_free_gpu_is_taken_before_a_node_is_bought() -> None:
    free = scheduling.node_of(live("gpu-0"), [])
    assert scaleplan.plan_growth([pod()], [free], [pool()], {}).growths == []
    taken = scheduling.node_of(live("gpu-0"), [pod("old", node="gpu-0")])
    assert scaleplan.plan_growth([pod()], [taken], [pool()], {}).growths[0].count == 1


def test_the_maximum_holds_and_is_said() -> None:
    plan = scaleplan.plan_growth([pod(str(n)) for n in range(4)], [], [pool(nodes=2)], {})
    assert [growth.count for growth in plan.growths] == [1]
    assert [why for _pod, why in plan.refused] == ["pod didn't trigger scale-up: 1 max node group size reached"] * 3


def test_the_total_maximum_counts_over_all_zones() -> None:
    zones = {"us-central1-a": 1, "us-central1-b": 0}
    total = pool(high=0, targets=zones, total_high=3, groups={})
    plan = scaleplan.plan_growth([pod(str(n)) for n in range(4)], [], [total], {})
    assert {growth.zone: growth.count for growth in plan.growths} == {"us-central1-a": 1, "us-central1-b": 1}
    assert len(plan.refused) == 2


def test_zones_grow_evenly_and_one_without_stock_is_left_out() -> None:
    zones = {"us-central1-a": 0, "us-central1-b": 0}
    even = pool(targets=zones, groups={})
    plan = scaleplan.plan_growth([pod(str(n)) for n in range(4)], [], [even], {})
    assert {growth.zone: growth.count for growth in plan.growths} == {"us-central1-a": 2, "us-central1-b": 2}
    backing_off = frozenset({("gpu", "us-central1-a")})
    plan = scaleplan.plan_growth([pod(str(n)) for n in range(2)], [], [even], {}, backing_off)
    assert {growth.zone: growth.count for growth in plan.growths} == {"us-central1-b": 2}


def test_reasons_are_counted() -> None:
    cpu_only = pool("cpu", gpus=0)
    plan = scaleplan.plan_growth([pod()], [], [cpu_only, pool()], {}, frozenset({("gpu", ZONE)}))
    assert plan.refused[0][1] == (
        "pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu, 1 in backoff after failed scale-up"
    )
    stranger = pod(gpus=0, cpu="64")
    assert scaleplan.refusal(stranger, [cpu_only], frozenset()).endswith("1 Insufficient cpu")
    assert "untolerated taint {nvidia.com/gpu: present}" in scaleplan.refusal(pod(gpus=0), [pool()], frozenset())


def test_pods_without_gpu_do_not_buy_gpu_nodes() -> None:
    plan = scaleplan.plan_growth([pod(gpus=0)], [], [pool(), pool("cpu", gpus=0)], {})
    assert [growth.pool for growth in plan.growths] == ["cpu"]


def test_idle_nodes_above_the_minimum_may_go_empty_ones_first() -> None:
    items = {"gpu-0": live("gpu-0"), "gpu-1": live("gpu-1"), "gpu-2": live("gpu-2")}
    busy = pod("server", node="gpu-0")
    idle = scaleplan.idle_nodes(items, [busy], [pool(nodes=3)])
    assert [found.name for found in idle] == ["gpu-1", "gpu-2"]
    assert all(found.empty for found in idle)
    assert scaleplan.idle_nodes(items, [busy], [pool(nodes=3, low=3)]) == []


def test_what_a_daemon_set_put_there_does_not_hold_a_node_but_a_lone_pod_does() -> None:
    items = {"gpu-0": live("gpu-0")}
    daemon = pod("exporter", gpus=0, node="gpu-0", owner="DaemonSet")
    assert [found.name for found in scaleplan.idle_nodes(items, [daemon], [pool()])] == ["gpu-0"]
    lone = pod("by-hand", gpus=0, node="gpu-0", owner="")
    assert scaleplan.idle_nodes(items, [lone], [pool()]) == []


def test_a_node_with_little_on_it_goes_only_where_that_finds_another_place() -> None:
    small = pod("small", gpus=0, cpu="1", node="cpu-0")
    pools = [pool("cpu", gpus=0, nodes=2)]
    both = {name: live(name, gpus=0) for name in ("cpu-0", "cpu-1")}
    (moved, empty) = sorted(scaleplan.idle_nodes(both, [small], pools), key=lambda found: found.name)
    assert [found["metadata"]["name"] for found in moved.pods] == ["small"]
    assert empty.empty
    assert scaleplan.idle_nodes({"cpu-0": both["cpu-0"]}, [small], [pool("cpu", gpus=0)]) == []
    marked = {**both, "cpu-1": live("cpu-1", 0, [{"key": scaleplan.TO_BE_DELETED, "effect": "NoSchedule"}])}
    assert "cpu-0" not in [found.name for found in scaleplan.idle_nodes(marked, [small], pools)]


def test_a_full_node_is_not_idle() -> None:
    full = pod("large", gpus=0, cpu="3", node="cpu-0")
    items = {name: live(name, gpus=0) for name in ("cpu-0", "cpu-1")}
    assert [found.name for found in scaleplan.idle_nodes(items, [full], [pool("cpu", gpus=0, nodes=2)])] == ["cpu-1"]


def test_node_selectors_and_affinities_count() -> None:
    node = Node("n", {"zone": "a"}, (), Counter(cpu=4, memory=2**34, pods=110))
    wants = pod(gpus=0)
    wants["spec"]["nodeSelector"] = {"zone": "b"}
    assert scheduling.obstacles(wants, node) == ["node(s) didn't match Pod's node affinity/selector"]
    del wants["spec"]["nodeSelector"]
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    wants["spec"]["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    assert scheduling.obstacles(wants, node) == []
