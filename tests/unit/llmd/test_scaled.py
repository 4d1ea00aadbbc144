"""A number of replicas that an autoscaler sets: it is no reason for a change, and no change takes it back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT, SERVICE
from ansible_collections.llmd.gke.plugins.module_utils.kube.live import Target
from ansible_collections.llmd.gke.plugins.module_utils.llmd import scaled
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import ReleaseState
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Bounds, Release

MINE = {
    "name": "ms",
    "chart": "model",
    "version": "v0.3.17",
    "values": {"image": "a", "decode": {"replicas": 1, "args": []}},
    "autoscaled": {"deployment": "ms-decode", "value": "decode.replicas", "min": 1, "max": 3},
}
WANTED = Release.from_params(MINE, "llm-d")


def installed(chart: str = "model-v0.3.17", **decode: Any) -> ReleaseState:
    return ReleaseState("ms", "llm-d", "deployed", 4, chart, values={"image": "a", "decode": {"args": [], **decode}})


def number(release: Release) -> int | None:
    return scaled.number_in(release.values, "decode.replicas")


def test_nothing_else_differs_so_helm_s_own_number_stays() -> None:
    release = scaled.settled(WANTED, installed(replicas=2), live=3)
    assert number(release) == 2
    assert release.values == installed(replicas=2).values
    assert release.leave == ("Deployment spec.replicas",)


@pytest.mark.parametrize(
    ("state", "live", "expected"),
    [
        (None, None, 1),  # not there yet: what is written
        (installed("model-v0.3.16", replicas=1), 3, 3),  # another chart: what the autoscaler has made of it
        (replace(installed(replicas=1), values={"image": "b", "decode": {"replicas": 1}}), 2, 2),
        (replace(installed(replicas=0), values={"image": "b", "decode": {"replicas": 0}}), 0, 1),  # after a pause
        (installed(replicas=9), 9, 3),  # bounds that were lowered
    ],
)
def test_with_another_change_it_becomes_what_is_there_within_the_bounds(
    state: ReleaseState | None, live: int | None, expected: int
) -> None:
    assert number(scaled.settled(WANTED, state, live)) == expected


def test_a_fixed_number_is_left_alone() -> None:
    fixed = replace(WANTED, autoscaled=None)
    assert scaled.settled(fixed, installed(replicas=2), live=3) is fixed


def test_the_number_is_read_from_the_cluster(api: Any, client: Any) -> None:
    assert scaled.live_number(client, WANTED) is None
    assert scaled.live_number(None, WANTED) is None
    api.put("/apis/apps/v1/namespaces/llm-d/deployments/ms-decode", {"spec": {"replicas": 3}})
    assert scaled.live_number(client, WANTED) == 3


def test_what_is_put_back_keeps_its_number(api: Any, client: Any) -> None:
    api.put("/apis/apps/v1/namespaces/llm-d/deployments/ms-decode", {"spec": {"replicas": 3}})
    document = {"metadata": {"name": "ms-decode"}, "spec": {"replicas": 1, "paused": False}}
    kept = scaled.keep_number(client, Target(DEPLOYMENT, document, "llm-d"))
    assert kept.document["spec"] == {"replicas": 3, "paused": False}
    assert document["spec"]["replicas"] == 1
    other = Target(SERVICE, {"metadata": {"name": "s"}, "spec": {}}, "llm-d")
    assert scaled.keep_number(client, other) is other


def test_bounds() -> None:
    assert [Bounds("d", "v", 1, 3).inside(number) for number in (0, 2, 9)] == [1, 2, 3]
