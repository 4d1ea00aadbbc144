"""Out of stock or out of quota: the next allowed zone or GPU, in the same run, and left as it is by the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
GPU: dict[str, Any] = {
    "name": "gpu-pool",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1, "driver_version": "default"},
    "autoscaling": {"min": 0, "max": 3},
    "spot": False,
    "fallbacks": [{"zone": "us-central1-b"}, {"type": "nvidia-l4", "machine_type": "g2-standard-4"}],
}
CLUSTER: dict[str, Any] = {
    "location": "us-central1-a",
    "name": "llm-d-cluster",
    "deployment": "pattern1",
    "node_pools": [{"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2}, GPU],
}


@pytest.fixture
def ready(emulated: Any, module: Module) -> Module:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    return module


def gpu_pool(emulated: Any) -> dict[str, Any]:
    (cluster,) = emulated.control("snapshot")["clusters"].values()
    found: dict[str, Any] = next(pool for pool in cluster["nodePools"] if pool["name"] == "gpu-pool")
    return found


@pytest.mark.parametrize(
    ("faults", "zones", "gpu"),
    [
        ([["stockout", "us-central1-a"]], ["us-central1-b"], "nvidia-tesla-t4"),
        ([["stockout", "us-central1", "nvidia-tesla-t4"]], ["us-central1-a"], "nvidia-l4"),
        ([["quota", "NVIDIA_T4_GPUS", "0", "us-central1"]], ["us-central1-a"], "nvidia-l4"),
    ],
)
def test_the_next_one_is_taken_in_the_same_run(
    emulated: Any, ready: Module, faults: list[list[str]], zones: list[str], gpu: str
) -> None:
    for words in faults:
        emulated.plant(words=words)
    made = ready("gke_cluster", **CLUSTER)
    assert made.get("failed") is None, made
    pool = gpu_pool(emulated)
    assert pool["status"] == "RUNNING"
    assert pool["locations"] == zones
    assert pool["config"]["accelerators"][0]["acceleratorType"] == gpu
    again = ready("gke_cluster", **CLUSTER)
    assert again["changed"] is False, again["diff"]
    alone = {**GPU, "cluster": "llm-d-cluster", "location": "us-central1-a"}
    assert ready("gke_node_pool", **alone)["changed"] is False


def test_nothing_left_to_try(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["stockout", "*"])
    made = ready("gke_cluster", **CLUSTER)
    assert made["error"]["code"] == "STOCKOUT", made["msg"]
    for words in ("us-central1-b", "nvidia-l4", "fallbacks were tried"):
        assert words in made["msg"]
    (cluster,) = emulated.control("snapshot")["clusters"].values()
    assert [pool["name"] for pool in cluster["nodePools"]] == ["default-pool"]  # nothing in ERROR is left
    emulated.control("faults", verb="DELETE")
    assert ready("gke_cluster", **CLUSTER)["changed"] is True
    assert gpu_pool(emulated)["status"] == "RUNNING"


def test_a_pool_in_error_of_an_earlier_run_is_replaced(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["stockout", "us-central1-a"])
    without = {**CLUSTER, "node_pools": [CLUSTER["node_pools"][0], {**GPU, "fallbacks": []}]}
    assert ready("gke_cluster", **without)["error"]["code"] == "STOCKOUT"
    made = ready("gke_cluster", **CLUSTER)
    assert made["changed"] is True, made
    assert gpu_pool(emulated)["locations"] == ["us-central1-b"]


def test_a_pool_alone(emulated: Any, ready: Module) -> None:
    assert ready("gke_cluster", **{**CLUSTER, "node_pools": CLUSTER["node_pools"][:1]})["changed"] is True
    emulated.plant(words=["stockout", "us-central1-a"])
    made = ready("gke_node_pool", **GPU, cluster="llm-d-cluster", location="us-central1-a")
    assert made.get("failed") is None, made
    assert gpu_pool(emulated)["locations"] == ["us-central1-b"]


def test_another_region_is_refused_before_anything_is_made(emulated: Any, ready: Module) -> None:
    far = {**GPU, "fallbacks": [{"zone": "europe-west4-a"}]}
    made = ready("gke_cluster", **{**CLUSTER, "node_pools": [far]})
    assert made["error"]["code"] == "NODE_POOL_INVALID", made
    assert emulated.control("snapshot")["clusters"] == {}


def test_the_refused_quota_is_told_in_numbers(emulated: Any, ready: Module) -> None:
    emulated.plant(words=["quota", "CPUS", "8", "us-central1"])
    made = ready("gke_cluster", **{**CLUSTER, "node_pools": [CLUSTER["node_pools"][0], {**GPU, "fallbacks": []}]})
    assert made["error"]["code"] == "QUOTA_EXCEEDED"
    assert "quota CPUS in us-central1: limit 8, used 0, asked 12" in made["msg"]
