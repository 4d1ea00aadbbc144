"""Whose a pod is: the picker's, the router's, a model server's, nobody's of this deployment."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.install_rules import _ours
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_cluster import (
    is_body_router,
    is_model_server,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Cluster, Observation, Scope

GPU = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}


def pod(labels: dict[str, str] | None = None, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": "p", **({"labels": labels} if labels else {})}, "spec": spec or {}}


def seen(body_router: str = "") -> Observation:
    scope = Scope("p", "r", "z", "c", pool="gaie", model="m", body_router=body_router)
    pool = {"metadata": {"name": "gaie"}, "spec": {"selector": {"matchLabels": {"serve": "true"}}}}
    return Observation(scope, cluster=Cluster(pools=[pool]))


@pytest.mark.parametrize(
    ("given", "server", "ours"),
    [
        (pod({"serve": "true"}), True, True),
        (pod(spec=GPU), True, True),
        (pod({"inferencepool": "gaie-epp"}, GPU), False, True),
        (pod({"app": "bbr"}), False, True),
        (pod({"serve": "false"}), False, False),
        (pod(), False, False),
        ({}, False, False),
    ],
)
def test_a_pod_is_known_by_the_pool_that_takes_it_or_by_its_gpu(
    given: dict[str, Any], server: bool, ours: bool
) -> None:
    assert is_model_server(given, seen()) is server
    assert _ours(given, seen("bbr")) is ours


def test_without_a_router_no_pod_is_the_routers() -> None:
    assert is_body_router(pod({"app": "bbr"}), seen("bbr").scope)
    assert not is_body_router(pod({"app": "other"}), seen("bbr").scope)
    assert not is_body_router(pod({"app": ""}), seen().scope)
    assert not is_body_router(pod(), seen("bbr").scope)
