"""What the emulated Google does for the cluster autoscaler, and nodes that do not start."""

from __future__ import annotations

import pytest

from sandbox.gcp.operations import OperationFailed
from sandbox.gcp.scaling import Busy, PoolScaler, ScalingPool
from sandbox.gcp.testing import Cloud

KEY = "llmd-sandbox/us-central1-a/llm-d-cluster"
ZONE = "us-central1-a"


@pytest.fixture
def cluster(cloud: Cloud) -> str:
    operation = cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert "error" not in operation
    return f"{cloud.container}/clusters/llm-d-cluster"


@pytest.fixture
def scaler(cloud: Cloud, cluster: str) -> PoolScaler:
    return PoolScaler(cloud.emulator)


def gpu_pool(scaler: PoolScaler) -> ScalingPool:
    (pool,) = scaler.pools(KEY)
    return pool


def test_a_pool_grows_to_its_maximum_and_shrinks_to_its_minimum(scaler: PoolScaler) -> None:
    before = gpu_pool(scaler)
    assert (before.name, before.low, before.high, before.size) == ("gpu-pool", 0, 3, 1)
    assert before.groups[ZONE].endswith("-grp")
    assert "/zones/us-central1-a/instanceGroups/gke-llm-d-cluster-gpu-pool-" in before.groups[ZONE]
    scaler.grow(KEY, "gpu-pool", ZONE, 5)
    grown = gpu_pool(scaler)
    assert (grown.size, len(grown.nodes), grown.room()) == (3, 3, 0)
    for name in list(grown.nodes):
        assert scaler.shrink(KEY, "gpu-pool", name)
    assert gpu_pool(scaler).size == 0
    assert not scaler.shrink(KEY, "gpu-pool", "unknown-node")


def test_the_minimum_holds(cloud: Cloud, cluster: str, scaler: PoolScaler) -> None:
    limits = {"autoscaling": {"enabled": True, "minNodeCount": 1, "maxNodeCount": 3}}
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setAutoscaling", limits)
    (only,) = gpu_pool(scaler).nodes
    assert not scaler.shrink(KEY, "gpu-pool", only)
    assert list(gpu_pool(scaler).nodes) == [only]


def test_the_total_limits_hold(cloud: Cloud, cluster: str, scaler: PoolScaler) -> None:
    limits = {"autoscaling": {"enabled": True, "totalMinNodeCount": 1, "totalMaxNodeCount": 2}}
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setAutoscaling", limits)
    scaler.grow(KEY, "gpu-pool", ZONE, 5)
    pool = gpu_pool(scaler)
    assert (pool.size, pool.room(), pool.spare(ZONE)) == (2, 0, 1)


@pytest.mark.parametrize(
    ("fault", "condition", "code"),
    [
        (["stockout", "us-central1"], "GCE_STOCKOUT", "ZONE_RESOURCE_POOL_EXHAUSTED"),
        (["gpu-quota", "1"], "GCE_QUOTA_EXCEEDED", "QUOTA_EXCEEDED"),
        (["quota", "NVIDIA_T4_GPUS", "1"], "GCE_QUOTA_EXCEEDED", "QUOTA_EXCEEDED"),
    ],
)
def test_shortages_are_told_and_leave_the_target_as_it_was(
    cloud: Cloud, cluster: str, scaler: PoolScaler, fault: list[str], condition: str, code: str
) -> None:
    cloud.world.faults.plant({"words": fault})
    with pytest.raises(OperationFailed) as failed:
        scaler.grow(KEY, "gpu-pool", ZONE, 1)
    assert failed.value.extra["condition"] == condition
    pool = gpu_pool(scaler)
    assert (pool.size, len(pool.nodes)) == (1, 1)
    found = cloud.ok("GET", f"{cluster}/nodePools/gpu-pool")
    assert found["status"] == "RUNNING"  # an autoscaler's failure is no state of the pool
    (errors,) = cloud.world.group_errors.values()
    assert errors[0]["error"]["code"] == code


def test_it_stands_back_while_an_operation_runs(cloud: Cloud, cluster: str, scaler: PoolScaler) -> None:
    (node,) = gpu_pool(scaler).nodes
    cloud.emulator.timing.speed = 1
    operation = cloud.ok("POST", f"{cluster}/nodePools/gpu-pool:setSize", {"nodeCount": 2})
    with pytest.raises(Busy):
        scaler.grow(KEY, "gpu-pool", ZONE, 1)
    assert scaler.pools(KEY) == []
    with pytest.raises(Busy):
        scaler.shrink(KEY, "gpu-pool", node)
    cloud.emulator.timing.speed = 0
    cloud.emulator.operations.wake()
    cloud.done(operation)
    with pytest.raises(KeyError):
        scaler.grow(KEY, "nothing", ZONE, 1)
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setAutoscaling", {"autoscaling": {"enabled": False}})
    assert scaler.pools(KEY) == []
    with pytest.raises(Busy):
        scaler.grow(KEY, "gpu-pool", ZONE, 1)


def test_a_node_that_does_not_start_is_made_anew(cloud: Cloud, cluster: str, scaler: PoolScaler) -> None:
    cloud.backend.failures["add_node"] = RuntimeError("kubelet died")
    scaler.grow(KEY, "gpu-pool", ZONE, 1)
    assert len(gpu_pool(scaler).nodes) == 2
    (errors,) = cloud.world.group_errors.values()
    assert "did not become a node (attempt 1 of 2): kubelet died" in errors[0]["error"]["message"]


def test_a_smaller_size_takes_empty_nodes_first(cloud: Cloud, cluster: str, scaler: PoolScaler) -> None:
    scaler.grow(KEY, "gpu-pool", ZONE, 2)
    oldest, middle, newest = gpu_pool(scaler).nodes
    cloud.emulator.fleet.occupied = lambda key: {newest} if key == KEY else set()
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setSize", {"nodeCount": 2})
    assert set(gpu_pool(scaler).nodes) == {oldest, newest}
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setSize", {"nodeCount": 1})
    assert set(gpu_pool(scaler).nodes) == {newest}
    assert middle not in gpu_pool(scaler).nodes
