"""The stand-in for the cluster autoscaler at work: what it tells, when it acts, what it leaves alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from sandbox.gcp.backend import NodeSpec
from sandbox.gcp.operations import OperationFailed
from sandbox.gcp.scaling import PoolScaler, ScalingPool
from sandbox.gke import autoscaler
from sandbox.gke.autoscaler import Autoscaler
from sandbox.gke.scheduling import GPU
from sandbox.timing import Timing

ZONE = "us-central1-a"


class Cluster:
    """Objects, clock, scaler and event recorder of a test in one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pods: dict[tuple[str, str], Any] = {}
        self.nodes: dict[tuple[str, str], Any] = {}
        self.events: list[tuple[str, str]] = []
        self.size = 1
        self.low, self.high = 0, 3
        self.grown: list[int] = []
        self.gone: list[str] = []
        self.failure: OperationFailed | None = None

    # the cache
    def synced(self) -> bool:
        return True

    def snapshot(self) -> dict[str, dict[tuple[str, str], Any]]:
        return {"Pod": dict(self.pods), "Node": dict(self.nodes)}

    # the recorder
    def record(self, about: Any, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append((reason, message))

    # the client
    def get(self, resource: Any, name: str, namespace: str | None = None) -> Any:
        return self.nodes.get(("", name))

    def patch(self, resource: Any, name: str, namespace: str | None, change: Any) -> Any:
        self.nodes["", name]["spec"] |= change["spec"]

    # the scaler
    def pools(self, key: str) -> list[ScalingPool]:
        taint = {"key": GPU, "value": "present", "effect": "NoSchedule"}
        spec = NodeSpec("template", "gpu", ZONE, "n1-standard-4", {}, [taint], 1)
        nodes = {name: ZONE for _, name in self.nodes}
        return [
            ScalingPool("gpu", spec, self.low, self.high, targets={ZONE: self.size}, nodes=nodes, groups={ZONE: "g"})
        ]

    def grow(self, key: str, name: str, zone: str, count: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.grown.append(count)
        self.size += count

    def shrink(self, key: str, name: str, node: str) -> bool:
        self.gone.append(node)
        self.nodes.pop(("", node))
        self.size -= 1
        return True

    def add_node(self, name: str) -> None:
        allocatable = {"cpu": "3920m", "memory": "12Gi", "pods": "110", GPU: "1"}
        self.nodes["", name] = {
            "metadata": {"name": name, "labels": {}},
            "spec": {"taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}]},
            "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def add_pod(self, name: str, node: str = "") -> None:
        spec = {
            "containers": [{"resources": {"requests": {GPU: "1"}}}],
            "tolerations": [{"operator": "Exists"}],
        }
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        owner = {"kind": "ReplicaSet", "name": "x", "controller": True}
        self.pods["llm-d", name] = {
            "metadata": {"name": name, "namespace": "llm-d", "uid": name, "ownerReferences": [owner]},
            "spec": {**spec, **({"nodeName": node} if node else {})},
            "status": {"phase": "Pending", "conditions": [] if node else [condition]},
        }

    def told(self, reason: str) -> list[str]:
        return [message for found, message in self.events if found == reason]


class NoAdmin:
    """Nobody is asked: cache, client and recorder are replaced."""

    server, ca_file, cert_file, key_file = "https://192.0.2.1", "", "", ""


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    found.add_node("gpu-0")
    found.add_pod("server", "gpu-0")
    return found


@pytest.fixture
def scaler(cluster: Cluster) -> Autoscaler:
    made = Autoscaler("key", NoAdmin(), cast(PoolScaler, cluster), Timing(0), clock=lambda: cluster.now)
    for name in ("_cache", "_client", "_events"):
        setattr(made, name, cluster)
    return made


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pod_that_waits_long_enough_gets_a_node_and_is_told(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.add_pod("second")
    scaler.sync()
    cluster.now += autoscaler.SHORTEST_WAIT - 0.1
    scaler.sync()
    assert cluster.events == []
    cluster.now += 0.2
    scaler.sync()
    assert cluster.told("TriggeredScaleUp") == ["pod triggered scale-up: [{g 1->2 (max: 3)}]"]
    until(lambda: cluster.grown == [1])


def test_a_pod_that_finds_its_place_meanwhile_buys_nothing(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.add_pod("second")
    scaler.sync()
    cluster.now += autoscaler.SHORTEST_WAIT / 2
    del cluster.pods["llm-d", "second"]
    scaler.sync()
    cluster.add_pod("second")  # waits anew
    cluster.now += autoscaler.SHORTEST_WAIT / 2 + 0.1
    scaler.sync()
    assert cluster.events == []


def test_a_failure_is_told_and_not_repeated_at_once(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.failure = OperationFailed("no more", 8, extra={"condition": "GCE_STOCKOUT"})
    cluster.add_pod("second")
    scaler.sync()
    cluster.now += autoscaler.SHORTEST_WAIT
    scaler.sync()
    until(lambda: cluster.told("FailedScaleUp"))
    assert "in zones us-central1-a" in cluster.told("FailedScaleUp")[0]
    assert "GCE out of resources" in cluster.told("FailedScaleUp")[0]
    scaler.sync()
    assert cluster.told("NotTriggerScaleUp") == ["pod didn't trigger scale-up: 1 in backoff after failed scale-up"]
    scaler.sync()
    assert len(cluster.told("NotTriggerScaleUp")) == 1
    cluster.failure = None
    cluster.now += autoscaler.SHORTEST_BACKOFF + 1
    scaler.sync()
    until(lambda: cluster.grown == [1])


def test_a_node_that_only_starts_is_waited_for(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.add_node("gpu-1")
    cluster.nodes["", "gpu-1"]["spec"]["taints"].append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
    cluster.size = 2
    cluster.add_pod("second")
    scaler.sync()
    cluster.now += autoscaler.SHORTEST_WAIT
    scaler.sync()
    assert cluster.events == []


def test_an_idle_node_goes_after_its_time_and_the_busy_one_stays(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.add_node("gpu-1")
    cluster.size = 2
    scaler.sync()
    cluster.now += autoscaler.SHORTEST_IDLE - 1
    scaler.sync()
    assert cluster.gone == []
    cluster.now += 2
    scaler.sync()
    until(lambda: cluster.told("ScaleDown")[-1:] == ["node removed by cluster autoscaler"])
    assert cluster.gone == ["gpu-1"]
    cluster.now += 2 * autoscaler.SHORTEST_IDLE
    scaler.sync()
    assert cluster.gone == ["gpu-1"]


def test_the_minimum_keeps_an_idle_node(cluster: Cluster, scaler: Autoscaler) -> None:
    cluster.add_node("gpu-1")
    cluster.size = cluster.low = 2
    for _ in range(3):
        scaler.sync()
        cluster.now += autoscaler.SHORTEST_IDLE
    assert cluster.gone == []
    assert scaler.occupied() == {"gpu-0"}
