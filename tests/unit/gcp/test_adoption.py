"""What somebody else made keeps its settings, unless it is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import adoption
from ansible_collections.llmd.gke.plugins.module_utils.gcp.clusters import Cluster
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Accelerator, Pool

OURS = {"managed-by": "llmd-gke", "llmd-deployment": "pattern1"}
CPU = Pool("default-pool", machine_type="n1-standard-4", node_count=2)
GPU = Pool("gpu", machine_type="n1-standard-4", accelerator=Accelerator("nvidia-tesla-t4"), autoscaling=(0, 3))
WANT = Cluster(
    "c",
    "us-central1-a",
    release_channel="REGULAR",
    deployment="pattern1",
    pools=(CPU, GPU),
    authorized_networks=(("203.0.113.0/24", ""),),
)


def cluster(labels: dict[str, str], *pools: dict[str, Any]) -> dict[str, Any]:
    return {"name": "c", "releaseChannel": {"channel": "STABLE"}, "resourceLabels": labels, "nodePools": list(pools)}


def pool(name: str, labels: dict[str, str], **config: Any) -> dict[str, Any]:
    return {"name": name, "config": {"machineType": "e2-standard-8", "resourceLabels": labels, **config}}


def gpu(kind: str, labels: dict[str, str]) -> dict[str, Any]:
    accelerator = {"acceleratorType": kind, "acceleratorCount": "1"}
    return {**pool("gpu", labels, accelerators=[accelerator]), "autoscaling": {"enabled": True, "maxNodeCount": 1}}


def test_a_cluster_of_somebody_else_keeps_channel_and_pools_and_that_is_said() -> None:
    want, (warning,) = adoption.spared(
        WANT, cluster({"team": "x"}, pool("default-pool", {}), gpu("nvidia-tesla-t4", {}))
    )
    assert (want.release_channel, want.pools) == ("", (Pool("default-pool"), Pool("gpu")))
    assert want.authorized_networks == WANT.authorized_networks  # whoever names it has asked for it
    for word in (
        "the release channel is STABLE, not REGULAR",
        "machine_type of node pool default-pool is e2-standard-8, not n1-standard-4",
        "autoscaling of node pool gpu is min 0 max 1, not min 0 max 3",
        "change_adopted: true",
    ):
        assert word in warning


@pytest.mark.parametrize("labels", [{}, {**OURS, "llmd-deployment": "pattern9"}])
def test_so_does_a_pool_in_a_cluster_of_ours(labels: dict[str, str]) -> None:
    want, (warning,) = adoption.spared(WANT, cluster(OURS, pool("default-pool", labels), gpu("nvidia-tesla-t4", OURS)))
    assert want.release_channel == "REGULAR"
    assert want.pools == (Pool("default-pool"), GPU)
    assert "node pool gpu" not in warning
    assert "default-pool" in warning


def test_what_is_ours_or_asked_for_or_missing_is_wanted_whole() -> None:
    assert adoption.spared(WANT, cluster(OURS)) == (WANT, [])
    ours = cluster(OURS, pool("default-pool", OURS), gpu("nvidia-tesla-t4", OURS))
    assert adoption.spared(WANT, ours) == (WANT, [])
    asked = dataclasses.replace(WANT, change_adopted=True)
    assert adoption.spared(asked, cluster({}, pool("default-pool", {}))) == (asked, [])


def test_a_pool_that_agrees_is_no_reason_for_words() -> None:
    want = dataclasses.replace(WANT, release_channel="stable", pools=(dataclasses.replace(CPU, machine_type=""),))
    assert adoption.spared(want, cluster({}, pool("default-pool", {})))[1] == []


def test_a_gpu_that_can_never_be_what_is_wanted_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot change in place"):
        adoption.spared(WANT, cluster({}, gpu("nvidia-l4", {})))
