"""The status as figures and as one screen: what is unknown stays unknown, the lease comes from the cluster's labels."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

NOW = datetime.datetime(2026, 11, 24, 8, 0, tzinfo=datetime.UTC)
NAMES = {"waiting": "w", "running": "r", "kv_cache_usage": "k", "generated": "g", "finished": "f"}
BEFORE = "w 2\nr 3\nk 0.25\ng 100\nf 7\n"
LATER = "w 1\nr 3\nk 0.5\ng 150\nf 9\n"


@pytest.fixture
def status(healthy: Callable[..., Any]) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import screen, status_of

    def look(labels: dict[str, str] | None = None, **changes: Any) -> tuple[dict[str, Any], list[str]]:
        seen = healthy()
        seen.cluster.metrics = {"server": BEFORE}
        if labels is not None:
            seen.google.cluster = {"name": "c", "resourceLabels": labels}
        for name, value in changes.items():
            setattr(seen.google, name, value)
        found = status_of(seen, [], {"server": LATER}, 2.0, NAMES, NOW)
        return found, screen(found)

    return look


def line(lines: list[str], name: str) -> str:
    (found,) = (text for text in lines if text.startswith(name))
    return found


def test_figures_are_of_the_second_look_and_rates_of_both(status: Any) -> None:
    found, lines = status()
    assert (found["queue"], found["running"], found["kv_cache_use"]) == (1.0, 3.0, 0.5)
    assert found["tokens_per_second"] == 25.0
    assert "25 a second over the last 2.0 s" in line(lines, "tokens")
    assert "50.0 %" in line(lines, "KV cache")


@pytest.mark.parametrize(
    ("labels", "state", "words"),
    [
        ({}, "none", "nothing takes this deployment away"),
        ({"llmd-lease-until": "20261124t104500z"}, "running", "2.8 h left"),
        ({"llmd-lease-until": "20261124t070000z"}, "expired", "OVER since 2026-11-24T07:00:00+00:00"),
        (
            {"llmd-lease-until": "20261124t104500z", "llmd-paused-since": "20261123t080000z"},
            "running",
            "paused since 2026-11-23T08:00:00+00:00",
        ),
    ],
)
def test_the_lease(status: Any, labels: dict[str, str], state: str, words: str) -> None:
    found, lines = status(labels)
    assert found["lease"]["state"] == state
    assert words in line(lines, "lease")


def test_what_could_not_be_read_is_unknown_and_no_cluster_is_told(status: Any) -> None:
    found, lines = status(cluster=None)
    assert found["lease"] is None
    assert line(lines, "lease").endswith("?")
    assert "there is no cluster" in line(status(cluster={})[1], "lease")


def test_every_model_has_its_own_line(healthy_two: Callable[..., Any]) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import screen, status_of

    seen = healthy_two()
    seen.cluster.metrics = {"server": BEFORE, "server-n": BEFORE}
    found = status_of(seen, [], {"server": LATER, "server-n": LATER}, 2.0, NAMES, NOW)
    assert [(pool["model"], pool["replicas"]) for pool in found["pools"]] == [
        ("m", {"wanted": 1, "ready": 1}),
        ("n", {"wanted": 3, "ready": 1}),
    ]
    assert found["replicas"] == {"wanted": 4, "ready": 2}
    assert found["picker"] == {"ready": 2, "pods": 2}
    assert found["queue"] == 2.0
    assert "n (gaie-n)  1 of 3 ready, picker 1 of 1, 3 running, 1 queued, 25 tokens/s" in line(screen(found), "  n (")


def test_a_number_that_follows_the_load_is_told(healthy_two: Callable[..., Any]) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import screen, status_of

    seen = healthy_two()
    target = {"kind": "Deployment", "name": "ms-n"}
    spec = {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target}
    seen.cluster.autoscalers = [{"metadata": {"name": "ms-n"}, "spec": spec, "status": {"desiredReplicas": 2}}]
    found = status_of(seen, [], {}, 0.0, NAMES, NOW)
    assert [pool["autoscaler"] for pool in found["pools"]] == [None, {"min": 1, "max": 3, "wanted": 2}]
    assert "  n follows the load: 1 to 3, now 2" in screen(found)


def test_pods_of_a_group_are_counted_and_what_the_group_makes_is_not(healthy: Callable[[], Any]) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import status_of

    seen = healthy()
    labels = {"metadata": {"labels": {"serve": "true"}}}
    group = {"size": 3, "workerTemplate": labels}
    seen.cluster.workloads[1] = {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "ms"},
        "spec": {"replicas": 2, "leaderWorkerTemplate": group},
    }
    seen.cluster.workloads.append(
        {
            "kind": "StatefulSet",
            "metadata": {"name": "ms", "ownerReferences": [{"kind": "LeaderWorkerSet", "name": "ms"}]},
            "spec": {"replicas": 2, "template": labels},
        }
    )
    assert status_of(seen, [], {}, 0.0, NAMES, NOW)["replicas"]["wanted"] == 6


def test_a_request_that_two_servers_share_is_counted_once(healthy: Callable[[], Any]) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import status_of

    seen = healthy()
    seen.scope = replace(seen.scope, role_label="role")
    reads = copy.deepcopy(seen.cluster.pods[1])
    seen.cluster.pods[1]["metadata"]["labels"]["role"] = "decode"
    reads["metadata"].update(name="reads", labels={"serve": "true", "role": "prefill"})
    seen.cluster.pods.append(reads)
    seen.cluster.metrics = {"server": BEFORE, "reads": BEFORE}
    found = status_of(seen, [], {"server": LATER, "reads": LATER}, 2.0, NAMES, NOW)
    assert found["requests"]["model_servers"] == 9.0
    assert [server["role"] for server in found["servers"]] == ["decode", "prefill"]
