"""Node pools of every kind that an inference deployment asks for, changed in place or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
PLACE = {"cluster": "c", "location": "us-central1-a"}
# GPU, machine, zones of us-central1 where Google offers both
GPUS = [
    ("nvidia-tesla-t4", 1, "n1-standard-4", "default"),
    ("nvidia-l4", 1, "g2-standard-4", "latest"),
    ("nvidia-tesla-a100", 1, "a2-highgpu-1g", "default"),
    ("nvidia-h100-80gb", 8, "a3-highgpu-8g", "disabled"),
]


@pytest.fixture
def cluster(emulated: Any, module: Module) -> Module:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    limits = {"NVIDIA_H100_GPUS": 16, "A3_CPUS": 1000, "CPUS": 1000, "A2_CPUS": 100}
    emulated.control("seed", {"quotas": {"us-central1": limits, "project": {"GPUS_ALL_REGIONS": 64}}})
    made = module("gke_cluster", name="c", location="us-central1-a", node_pools=[{"name": "cpu"}])
    assert made.get("changed") is True, made
    return module


@pytest.mark.parametrize(("gpu", "count", "machine", "driver"), GPUS)
def test_gpus(cluster: Module, gpu: str, count: int, machine: str, driver: str) -> None:
    pool = {
        **PLACE,
        "name": "gpu",
        "machine_type": machine,
        "node_count": 1,
        "accelerator": {"type": gpu, "count": count, "driver_version": driver},
    }
    made = cluster("gke_node_pool", **pool)
    assert made.get("changed") is True, made
    assert made["node_pool"]["accelerator"] == pool["accelerator"]
    assert cluster("gke_node_pool", **pool)["changed"] is False
    other = {**pool, "accelerator": {**pool["accelerator"], "driver_version": "latest"}}
    changed = cluster("gke_node_pool", **other)
    assert changed["changed"] is (driver != "latest"), changed
    assert changed["node_pool"]["accelerator"]["driver_version"] == "latest"


def test_a_gpu_count_that_the_machine_does_not_have(cluster: Module) -> None:
    pool = {**PLACE, "name": "gpu", "machine_type": "g2-standard-4", "accelerator": {"type": "nvidia-l4", "count": 2}}
    assert cluster("gke_node_pool", **pool)["error"]["code"] == "INVALID_REQUEST"


def test_everything_that_can_be_changed_is_changed_and_stays(emulated: Any, cluster: Module) -> None:
    pool: dict[str, Any] = {
        **PLACE,
        "name": "p",
        "machine_type": "n1-standard-4",
        "node_count": 1,
        "autoscaling": {"min": 0, "max": 3},
        "reservation": {"affinity": "specific", "name": "mine"},
    }
    assert cluster("gke_node_pool", **pool)["node_pool"]["location_policy"] == "balanced"
    wanted = {
        **pool,
        "machine_type": "n1-standard-8",
        "disk_size_gb": 200,
        "autoscaling": {"min": 1, "max": 2, "location_policy": "any"},
        "labels": {"team": "ai"},
        "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
        "upgrade_settings": {"max_surge": 0, "max_unavailable": 1},
        "locations": ["us-central1-b", "us-central1-a"],
    }
    predicted = cluster("gke_node_pool", check=True, **wanted)
    before = emulated.control("snapshot")
    assert predicted["changed"] is True
    assert emulated.control("snapshot") == before
    made = cluster("gke_node_pool", **wanted)
    assert made.get("changed") is True, made
    for key, value in predicted["node_pool"].items():
        assert made["node_pool"][key] == value, key
    assert made["node_pool"]["locations"] == ["us-central1-a", "us-central1-b"]
    again = cluster("gke_node_pool", **wanted)
    assert again["changed"] is False, again["diff"]
    less = {**pool, "machine_type": "n1-standard-8", "autoscaling": None}
    assert cluster("gke_node_pool", **less)["changed"] is False
    gone = cluster("gke_node_pool", **PLACE, name="p", state="absent")
    assert gone["changed"] is True
    groups = [path for path in emulated.control("snapshot")["compute"] if "-p-" in path and "nstance" in path]
    assert groups == []


IMMUTABLE = [
    {"spot": True},
    {"accelerator": {"type": "nvidia-l4"}},
    {"service_account": "other@llmd-sandbox.iam.gserviceaccount.com"},
    {"reservation": {"affinity": "none"}},
]


def test_what_cannot_be_changed_is_refused_with_what_it_would_take(cluster: Module) -> None:
    pool = {**PLACE, "name": "p", "machine_type": "n1-standard-4"}
    assert cluster("gke_node_pool", **pool)["changed"] is True
    for change in IMMUTABLE:
        refused = cluster("gke_node_pool", **pool, **change)
        assert refused["error"]["code"] == "NODE_POOL_IMMUTABLE", refused
        assert next(iter(change)) in refused["error"]["why"]
        assert "another name" in refused["error"]["remedy"]


@pytest.mark.parametrize(
    "options",
    [
        {"reservation": {"affinity": "specific"}},
        {"reservation": {"affinity": "any", "name": "x"}},
        {"reservation": {"affinity": "any"}, "spot": True},
        {"autoscaling": {"min": 3, "max": 1}},
    ],
)
def test_contradictions_are_refused_before_anything_is_sent(cluster: Module, options: dict[str, Any]) -> None:
    refused = cluster("gke_node_pool", **PLACE, name="p", **options)
    assert refused["error"]["code"] == "NODE_POOL_INVALID"
    assert refused["api_calls"] == {}


@pytest.mark.parametrize(
    "options",
    [{"locations": ["europe-west1-b"]}, {"upgrade_settings": {"max_surge": 0, "max_unavailable": 0}}],
)
def test_google_refuses(cluster: Module, options: dict[str, Any]) -> None:
    assert cluster("gke_node_pool", **PLACE, name="p", **options)["error"]["code"] == "INVALID_REQUEST"
