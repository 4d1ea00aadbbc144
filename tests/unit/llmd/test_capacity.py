"""Room for replicas: GPUs, nodes, limits, quotas."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.quotas import Headroom
from ansible_collections.llmd.gke.plugins.module_utils.llmd import capacity
from ansible_collections.llmd.gke.plugins.module_utils.llmd.capacity import GpuNode, PoolRoom, Wanted

POOL = "t4"


def room(size: int = 1, limits: tuple[int, int] | None = (0, 3), **more: Any) -> PoolRoom:
    return PoolRoom(POOL, size, limits, **({"zones": 1, "gpus_each": 1} | more))


def nodes(count: int = 1, *, own: int = 0, others: int = 0, total: int = 1) -> list[GpuNode]:
    return [GpuNode(f"n{number}", POOL, total, own, others) for number in range(count)]


def refuse(plan: capacity.CapacityPlan, pool: PoolRoom, *, short: bool = False, **more: Any) -> LlmdError:
    headroom = [Headroom("NVIDIA_T4_GPUS", "us-central1", 2, 1 if short else 8, 1)]
    options: dict[str, Any] = {"raise_max": False, "project": "p"} | more
    with pytest.raises(LlmdError) as refused:
        capacity.refuse(plan, pool, headroom, options.pop("zones", []), **options)
    return refused.value


def test_one_to_three_needs_two_nodes_within_the_maximum() -> None:
    plan = capacity.plan(Wanted(1, 3, 1), room(), nodes(own=1))
    assert (plan.wanted.direction, plan.nodes_needed, plan.new_nodes, plan.raises) == ("out", 3, 2, False)
    capacity.refuse(plan, room(), [], [], raise_max=False, project="p")


def test_gpus_that_are_free_or_our_own_need_no_node() -> None:
    assert capacity.plan(Wanted(1, 3, 1), room(3), nodes(3)).new_nodes == 0
    assert capacity.plan(Wanted(3, 3, 1), room(3), nodes(3, own=1)).new_nodes == 0


def test_gpus_of_others_are_not_ours() -> None:
    plan = capacity.plan(Wanted(1, 2, 1), room(2), [*nodes(1, own=1), GpuNode("n9", POOL, 1, 0, 1)])
    assert plan.new_nodes == 1


def test_large_nodes_hold_several() -> None:
    assert capacity.plan(Wanted(1, 4, 1), room(gpus_each=4), nodes(total=4, own=1)).new_nodes == 0
    assert capacity.plan(Wanted(1, 5, 2), room(gpus_each=4), nodes(total=4, own=2)).new_nodes == 2


def test_scaling_in_needs_fewer_nodes_and_is_never_refused() -> None:
    plan = capacity.plan(Wanted(3, 1, 1), room(3), nodes(3, own=1))
    assert (plan.wanted.direction, plan.nodes_needed, plan.new_nodes) == ("in", 1, 0)
    capacity.refuse(plan, room(3), [Headroom("X", "r", 9, 0, 0)], ["z"], raise_max=False, project="p")
    assert "fewer" in " ".join(capacity.screen(plan, room(3)))


def test_the_maximum_is_named_or_raised() -> None:
    plan = capacity.plan(Wanted(1, 5, 1), room(), nodes(own=1))
    assert (plan.pool_max_now, plan.pool_max, plan.raises) == (3, 5, True)
    error = refuse(plan, room())
    assert error.code == "SCALE_POOL_MAX"
    assert "llmd_gpu.max to 5" in error.remedy
    capacity.refuse(plan, room(), [], [], raise_max=True, project="p")


def test_limits_count_in_each_zone() -> None:
    three_zones = room(1, (0, 2), zones=3)
    plan = capacity.plan(Wanted(3, 7, 1), three_zones, nodes(3, own=1))
    assert (plan.nodes_now, plan.nodes_needed, plan.pool_max) == (3, 7, 3)


def test_everything_in_the_way_is_said_at_once() -> None:
    plan = capacity.plan(Wanted(1, 5, 1), room(), nodes(own=1))
    error = refuse(plan, room(), short=True, zones=["us-central1-a"])
    assert error.evidence["codes"] == ["SCALE_POOL_MAX", "SCALE_NOT_OFFERED", "SCALE_QUOTA"]
    assert "limit 1, used 1, asked 2" in error.why
    assert refuse(capacity.plan(Wanted(1, 3, 1), room(), nodes(own=1)), room(), short=True).code == "SCALE_QUOTA"


def test_a_pool_without_autoscaler_does_not_grow() -> None:
    fixed = room(1, None)
    assert refuse(capacity.plan(Wanted(1, 2, 1), fixed, nodes(own=1)), fixed).code == "SCALE_POOL_FIXED"


@pytest.mark.parametrize(
    ("wanted", "pool", "code"),
    [
        (Wanted(1, -1, 1), room(), "SCALE_INVALID"),
        (Wanted(0, 2, 1), room(0, None, paused=True), "SCALE_PAUSED"),
        (Wanted(1, 2, 4), room(), "SCALE_GPUS_PER_NODE"),
    ],
)
def test_what_no_number_of_nodes_could_do(wanted: Wanted, pool: PoolRoom, code: str) -> None:
    with pytest.raises(LlmdError) as refused:
        capacity.plan(wanted, pool, [])
    assert refused.value.code == code


def test_nodes_are_read_with_who_holds_their_gpus() -> None:
    node = {
        "metadata": {"name": "n0", "labels": {capacity.POOL_LABEL: POOL}},
        "status": {"allocatable": {"nvidia.com/gpu": "4", "cpu": "4"}},
    }
    cpu = {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "4"}}}

    def pod(name: str, gpus: str, labels: dict[str, str], phase: str = "Running") -> dict[str, Any]:
        container = {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
        return {
            "metadata": {"name": name, "namespace": "llm-d", "labels": labels},
            "spec": {"nodeName": "n0", "containers": [container]},
            "status": {"phase": phase},
        }

    pods = [pod("ours", "1", {"serving": "true"}), pod("theirs", "2", {}), pod("done", "1", {}, "Succeeded")]
    (found,) = capacity.gpu_nodes([node, cpu], pods, {"serving": "true"}, "llm-d")
    assert (found.total, found.own, found.others, found.free) == (4, 1, 2, 1)
