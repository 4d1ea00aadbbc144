"""SIGKILL at every operation of a deployment's life: the next run finishes it, and never a second time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
WORKER = Path(__file__).with_name("killed_worker.py")
COLLECTIONS = Path(__file__).resolve().parents[3] / "playbooks" / "collections"
SERVICES = {"services": ["compute", "container"]}
SUBNET = {"region": "us-central1", "range": "192.168.0.0/23", "deployment": "d"}
ADDRESS = {"region": "us-central1", "name": "gw", "deployment": "d"}
CLUSTER: dict[str, Any] = {
    "location": "us-central1-a",
    "name": "c",
    "deployment": "d",
    "gateway_api": "disabled",
    "node_pools": [{"name": "cpu", "node_count": 1}],
}
FULL = {**CLUSTER, "gateway_api": "standard"}
LABELS = {**FULL, "labels": {"team": "ai"}}
WINDOW = {**LABELS, "maintenance_window": {"start": "03:00"}}
POOL: dict[str, Any] = {
    "location": "us-central1-a",
    "cluster": "c",
    "name": "gpu",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4"},
    "autoscaling": {"min": 0, "max": 3},
}
SCALED = {**POOL, "autoscaling": {"min": 0, "max": 2}}
TAINTED = {**SCALED, "labels": {"team": "ai"}}
GONE = {"state": "absent"}
LIFE: list[tuple[str, dict[str, Any]]] = [
    ("gcp_services", SERVICES),
    ("gcp_proxy_subnet", SUBNET),
    ("gcp_address", ADDRESS),
    ("gke_cluster", CLUSTER),
    ("gke_cluster", FULL),
    ("gke_cluster", LABELS),
    ("gke_cluster", WINDOW),
    ("gke_node_pool", POOL),
    ("gke_node_pool", SCALED),
    ("gke_node_pool", TAINTED),
    ("gke_node_pool", {**TAINTED, "size": 2}),
    ("gke_node_pool", {**TAINTED, **GONE}),
    ("gke_cluster", {**CLUSTER, **GONE}),
    ("gcp_address", {**ADDRESS, **GONE}),
    ("gcp_proxy_subnet", {**SUBNET, **GONE}),
]


def names_of(emulated: Any) -> set[str]:
    return {str(operation["name"]) for operation in emulated.control("operations")["operations"]}


def kill_at_its_operation(emulated: Any, name: str, options: dict[str, Any]) -> set[str]:
    """Start a module, kill it as soon as Google has begun to work for it; the names of the operations it began."""
    before = names_of(emulated)
    given = {"project": os.environ["GOOGLE_CLOUD_PROJECT"], **options}
    process = subprocess.Popen(
        [sys.executable, str(WORKER), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None and names_of(emulated) == before:
        time.sleep(0.02)
    process.kill()
    process.wait(10)
    assert process.stdout is not None
    said = process.stdout.read()
    begun = names_of(emulated) - before
    assert begun, f"{name} began nothing: {said}"
    assert process.returncode == -9, f"{name} ended before it could be killed: {said}"
    return begun


@pytest.mark.parametrize("emulated", [20], indirect=True)
def test_every_operation_of_a_life(emulated: Any, module: Module) -> None:
    """The second run meets the first one's operation still under way; Google gets to do each thing exactly once."""
    for step, (name, options) in enumerate(LIFE):
        where = f"step {step}, {name} {options}"
        emulated.control("speed", {"speed": 20})  # a compute operation takes half a second, a cluster many
        begun = kill_at_its_operation(emulated, name, options)
        before = names_of(emulated)
        emulated.control("speed", {"speed": 200})
        finished = module(name, **options)
        assert not finished.get("failed"), f"{where}: {finished.get('msg')}"
        assert names_of(emulated) == before, f"{where}: {len(begun)} operation(s) begun, and again by the next run"
        again = module(name, **options)
        assert again.get("changed") is False, f"{where}: {again}"
        if name == "gke_cluster" and "state" not in options:
            assert finished["cluster"]["status"] == "RUNNING"
    status = emulated.control("status")
    assert status["clusters"] == {}
    kinds = [operation.get("operationType") for operation in emulated.control("operations")["operations"]]
    assert kinds.count("CREATE_CLUSTER") == kinds.count("CREATE_NODE_POOL") == 1
    assert kinds.count("insert") == kinds.count("delete") == 2
