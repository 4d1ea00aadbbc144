"""Pause, resume and lease against the emulator: what was is given back exactly, second runs change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
WHERE = {"location": "us-central1-a", "cluster": "llm-d-cluster", "deployment": "pattern1"}
GPU = {"type": "nvidia-tesla-t4", "count": 1}
POOLS = [
    {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2},
    {
        "name": "gpu-pool",
        "machine_type": "n1-standard-4",
        "node_count": 1,
        "accelerator": GPU,
        "autoscaling": {"min": 0, "max": 3},
    },
]
RUNNING = {"size": 1, "autoscaling": {"min": 0, "max": 3}}


@pytest.fixture
def made(emulated: Any, module: Module) -> Module:
    module("gcp_services", services=["compute", "container", "networkservices"])
    made = module(
        "gke_cluster", location="us-central1-a", name="llm-d-cluster", deployment="pattern1", node_pools=POOLS
    )
    assert made["changed"], made
    return module


def labels(emulated: Any) -> dict[str, str]:
    clusters = emulated.control("snapshot")["clusters"]
    found: dict[str, str] = next(iter(clusters.values()))["resourceLabels"]
    return {key: value for key, value in found.items() if key.startswith(("llmd-paused", "llmd-lease"))}


def test_a_pause_and_its_end(emulated: Any, made: Module) -> None:
    predicted = made("gke_pause", check=True, **WHERE, state="paused", cpu_nodes=1)
    assert (predicted["changed"], labels(emulated)) == (True, {})
    paused = made("gke_pause", **WHERE, state="paused", cpu_nodes=1)
    assert paused["pools"]["gpu-pool"] == {"size": 0, "autoscaling": None}
    assert paused["pools"]["default-pool"]["size"] == 1
    kept = labels(emulated)
    assert kept["llmd-paused-pool-gpu-pool"] == "1_0_3"
    assert kept["llmd-paused-pool-default-pool"] == "2"
    again = made("gke_pause", **WHERE, state="paused", cpu_nodes=1)
    assert (again["changed"], again["since"], labels(emulated)) == (False, paused["since"], kept)

    back = made("gke_pause", **WHERE, state="running")
    assert (back["changed"], back["since"]) == (True, paused["since"])
    assert back["pools"] == {"default-pool": {"size": 2, "autoscaling": None}, "gpu-pool": RUNNING}
    assert labels(emulated) == {}
    assert made("gke_pause", **WHERE, state="running")["changed"] is False
    plain = made("gke_node_pool", location="us-central1-a", cluster="llm-d-cluster", name="gpu-pool", size=1)
    assert plain["changed"] is False
    assert plain["node_pool"]["autoscaling"] == {"min": 0, "max": 3}


def test_a_half_done_pause_keeps_its_first_memory(emulated: Any, made: Module) -> None:
    method = "container.projects.locations.clusters.nodePools.setSize"
    emulated.plant(method=method, http=403, message=f"Required '{method}' permission", times=1)
    assert "error" in made("gke_pause", **WHERE, state="paused")  # the autoscaler is off by now, the size is not 0
    assert made("gke_pause", **WHERE, state="paused")["changed"] is True
    assert made("gke_pause", **WHERE, state="running")["pools"]["gpu-pool"] == RUNNING


def test_a_resume_without_quota_is_named_and_loses_nothing(emulated: Any, made: Module) -> None:
    made("gke_pause", **WHERE, state="paused")
    emulated.plant(name="gpu-quota", limit=0)
    refused = made("gke_pause", **WHERE, state="running")
    assert refused["error"]["code"] == "QUOTA_EXCEEDED"
    assert "llmd-paused-pool-gpu-pool" in labels(emulated)
    emulated.control("faults", verb="DELETE")
    assert made("gke_pause", **WHERE, state="running")["pools"]["gpu-pool"] == RUNNING


def test_somebody_elses_cluster_is_refused(emulated: Any, made: Module) -> None:
    other = {**WHERE, "deployment": "pattern2"}
    assert made("gke_pause", **other, state="paused")["error"]["code"] == "CLUSTER_NOT_OURS"
    assert made("gke_lease", **other, hours=1)["error"]["code"] == "CLUSTER_NOT_OURS"
    missing = {**WHERE, "cluster": "nowhere"}
    assert made("gke_pause", **missing, state="running")["error"]["code"] == "CLUSTER_NOT_FOUND"
    assert made("gke_lease", **missing)["lease"]["state"] == "no_cluster"


def test_a_lease_is_set_once_extended_on_demand_and_named_when_over(emulated: Any, made: Module) -> None:
    assert made("gke_lease", **WHERE)["lease"]["state"] == "none"
    first = made("gke_lease", **WHERE, hours=2)
    assert (first["changed"], first["lease"]["state"]) == (True, "running")
    assert made("gke_lease", **WHERE, hours=5)["changed"] is False
    longer = made("gke_lease", **WHERE, hours=5, renew=True)["lease"]
    assert longer["hours_left"] == pytest.approx(5, abs=0.1)
    assert made("gke_lease", **WHERE, hours=-1)["error"]["code"] == "LEASE_INVALID"
    made("gke_lease", **WHERE, hours=0.0001, renew=True)
    over = made("gke_lease", **WHERE)["lease"]
    for _look in range(100):  # a third of a second, however fast the machine looks
        if over["expired"]:
            break
        over = made("gke_lease", **WHERE)["lease"]
    assert (over["state"], over["expired"], over["owned"]) == ("expired", True, True)
    assert made("gke_lease", **WHERE, hours=0, renew=True)["lease"]["state"] == "none"
    assert labels(emulated) == {}
