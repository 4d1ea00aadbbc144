"""Drift of what Google Cloud has, each kind planted on the emulated project; a healthy one shows none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
WHERE = {"location": "us-central1-a", "cluster": "llm-d-cluster"}
POOLS = [
    {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2},
    {
        "name": "gpu-pool",
        "machine_type": "n1-standard-4",
        "node_count": 1,
        "accelerator": {"type": "nvidia-tesla-t4", "count": 1},
        "autoscaling": {"min": 0, "max": 3},
    },
]


@pytest.fixture
def made(emulated: Any, module: Module) -> Module:
    module("gcp_services", services=["compute", "container", "networkservices"])
    assert cluster(module)["changed"]
    return module


def cluster(module: Module, **more: Any) -> dict[str, Any]:
    options = {"location": "us-central1-a", "name": "llm-d-cluster", "deployment": "pattern1", "node_pools": POOLS}
    return module("gke_cluster", **options, **({"gateway_api": "standard"} | more))


def drift(module: Module) -> dict[str, str]:
    """What differs, with what was found."""
    asked = cluster(module, check=True)
    google = [{"name": "cluster", "result": {key: asked[key] for key in ("changed", "diff")}}]
    found = module("drift", **WHERE, deployment="pattern1", pools=POOLS, google=google)
    assert found["changed"] is False
    return {entry["what"]: entry["found"] for entry in found["differences"]}


def test_a_healthy_deployment_shows_none(made: Module) -> None:
    assert drift(made) == {}


def test_sizes_and_limits_that_somebody_set_are_found(made: Module) -> None:
    made("gke_node_pool", **WHERE, name="default-pool", size=1)
    made("gke_node_pool", **WHERE, name="gpu-pool", autoscaling={"min": 0, "max": 7})
    found = drift(made)
    assert found.pop("node pool default-pool size") == "1"
    assert list(found.values()) == ["7"], found


def test_the_channel_of_the_gateway_api_is_found(made: Module) -> None:
    cluster(made, gateway_api="disabled")
    found = drift(made)
    assert any("gateway" in what for what in found), found


def test_a_pause_is_told_beside_its_differences(made: Module) -> None:
    made("gke_pause", **WHERE, deployment="pattern1", state="paused")
    found = made("drift", **WHERE, deployment="pattern1", pools=POOLS)
    assert found["paused"]
    assert "paused since" in found["screen"][-1]


def test_without_a_cluster_nothing_else_is_asked(emulated: Any, module: Module) -> None:
    module("gcp_services", services=["compute", "container", "networkservices"])
    assert list(drift(module).values()) == ["not there"]
