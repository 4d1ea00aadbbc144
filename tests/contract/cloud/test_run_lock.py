"""The lock before there is a cluster and while one is being made; its Lease object is proven on the sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .test_killed_runs import kill_at_its_operation

Module = Callable[..., dict[str, Any]]
WHERE = {"location": "us-central1-a", "cluster": "llm-d-cluster", "deployment": "pattern1"}
ME = {
    "run": "aaaaaaaaaaaa-10-111",
    "user": "me",
    "host": "laptop",
    "machine": "aaaaaaaaaaaa",
    "pid": 10,
    "started": "111",
}
YOU = {
    "run": "bbbbbbbbbbbb-20-222",
    "user": "you",
    "host": "desk",
    "machine": "bbbbbbbbbbbb",
    "pid": 20,
    "started": "222",
}
CLUSTER: dict[str, Any] = {
    "location": "us-central1-a",
    "name": "llm-d-cluster",
    "deployment": "pattern1",
    "node_pools": [{"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 1}],
}


@pytest.mark.parametrize("emulated", [20], indirect=True)
def test_who_makes_the_cluster_is_known_to_whoever_comes_meanwhile(emulated: Any, module: Module) -> None:
    first = module("run_lock", **WHERE, holder=ME)  # not even the API is enabled
    assert (first["held"], first["cluster_exists"], first["lease"]["state"]) == (False, False, "no_cluster")
    emulated.control("speed", {"speed": 0})
    module("gcp_services", services=["compute", "container"])
    emulated.control("speed", {"speed": 20})
    assert first["creation_labels"]["llmd-run"] == ME["run"]
    until = {"llmd-lease-until": "29991231t235959z"}
    kill_at_its_operation(
        emulated, "gke_cluster", {**CLUSTER, "creation_labels": {**first["creation_labels"], **until}}
    )

    refused = module("run_lock", **WHERE, holder=YOU)
    assert refused["error"]["code"] == "RUN_IN_PROGRESS", refused
    assert "me@laptop" in refused["error"]["why"]
    assert refused["error"]["evidence"]["pid"] == 10
    looked = module("run_lock", **WHERE, holder=YOU, check=True)
    assert (looked["held"], looked["holder"]["user"], looked["cluster_status"]) == (False, "me", "PROVISIONING")
    for allowed in ({"holder": ME}, {"holder": YOU, "replace": ME["run"]}, {"holder": YOU, "force": True}):
        assert "error" not in module("run_lock", **WHERE, **allowed), allowed
    assert "error" not in module("run_lock", **WHERE, holder=YOU, duration=0)  # it is too long ago

    emulated.control("speed", {"speed": 0})
    again = module("gke_cluster", **CLUSTER, creation_labels={"llmd-run": YOU["run"], "team": "x"})
    assert (again["changed"], again["cluster"]["status"]) == (False, "RUNNING")  # they are of the making only
    labels = next(iter(emulated.control("snapshot")["clusters"].values()))["resourceLabels"]
    assert labels["llmd-run"] == ME["run"]
    assert labels["managed-by"] == "llmd-gke"

    # No API server stands behind this emulator: nobody is refused, a warning says that there is no lock.
    free = module("run_lock", **WHERE, holder=YOU)
    assert (free["held"], free["lease"]["state"]) == (False, "running")
    assert any("There is no lock" in str(warning) for warning in emulated.warnings)


def test_a_cluster_that_goes_holds_nobody_up(emulated: Any, module: Module) -> None:
    module("gcp_services", services=["compute", "container"])
    module("gke_cluster", **CLUSTER)
    emulated.control("speed", {"speed": 20})
    kill_at_its_operation(emulated, "gke_cluster", {**CLUSTER, "state": "absent"})
    status = module("run_lock", **WHERE, holder=YOU)
    assert (status["held"], status["cluster_status"]) == (False, "STOPPING")
    emulated.control("speed", {"speed": 0})
    limit = time.monotonic() + 60
    while module("run_lock", **WHERE, holder=YOU, state="free")["cluster_exists"]:
        assert time.monotonic() < limit
