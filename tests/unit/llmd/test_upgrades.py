"""How an upgrade goes: order from the free GPUs, interruption, downtime, way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.llmd import upgrades
from ansible_collections.llmd.gke.plugins.module_utils.llmd.capacity import GpuNode
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import ReleaseState
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release, as_it_was, restarts
from ansible_collections.llmd.gke.plugins.module_utils.llmd.upgrades import Server

MS = "ms-pattern1-decode"
FULL = [GpuNode("n0", "t4", 1, own=1)]
SPARE = [*FULL, GpuNode("n1", "t4", 1)]


def release(action: str = "upgrade", restarted: list[str] | None = None, name: str = "ms-pattern1") -> dict[str, Any]:
    return {
        "name": name,
        "changed": action != "none",
        "action": action,
        "reasons": ["values differ (decode.containers)"] if action != "none" else [],
        "restarts": [MS] if restarted is None else restarted,
    }


def plan(
    *releases: dict[str, Any], nodes: Sequence[GpuNode] = tuple(FULL), replicas: int = 1, **more: Any
) -> upgrades.UpgradePlan:
    servers = [Server(MS, replicas, 1, 42.0)]
    previous = more.pop("previous", [{"name": "ms-pattern1"}])
    return upgrades.plan(releases or [release()], previous, servers, nodes, **more)


def test_the_only_gpu_makes_the_old_one_go_first() -> None:
    found = plan()
    assert (found.strategy, found.interrupts, found.downtime, found.extra_nodes) == ("recreate", True, 42.0, 0)
    text = "\n".join(upgrades.screen(found))
    assert "downtime    about 42 s" in text
    assert "values differ (decode.containers)" in text


def test_a_gpu_to_spare_makes_the_new_one_come_first() -> None:
    found = plan(nodes=SPARE)
    assert (found.strategy, found.interrupts, found.extra_nodes) == ("surge", False, 0)


def test_two_halves_are_no_whole() -> None:
    servers = [Server(MS, 1, 2)]
    halves = [GpuNode("n0", "t4", 2, own=2), GpuNode("n1", "t4", 2, others=1), GpuNode("n2", "t4", 2, others=1)]
    assert upgrades.plan([release()], [], servers, halves).strategy == "recreate"


def test_several_go_one_after_the_other_without_an_interruption() -> None:
    found = plan(replicas=3, drain=120)
    assert (found.strategy, found.interrupts, found.downtime) == ("one_at_a_time", False, 0.0)


def test_who_asks_for_a_surge_is_told_what_it_costs() -> None:
    found = plan(wanted="surge", node_cost=0.54)
    assert (found.strategy, found.extra_nodes, found.interrupts) == ("surge", 1, False)
    assert "0.54 USD an hour" in "\n".join(upgrades.screen(found))
    with pytest.raises(ConfigurationError, match="no way to upgrade"):
        plan(wanted="at once")


def test_a_changed_selector_replaces_the_release() -> None:
    found = plan(release("replace"), nodes=SPARE)
    assert (found.strategy, found.interrupts, found.downtime) == ("replace", True, 42.0)


def test_a_picker_that_restarts_interrupts_for_a_moment() -> None:
    found = plan(release(restarted=["gaie-pattern1-epp"], name="gaie-pattern1"), previous=[{"name": "gaie-pattern1"}])
    assert (found.strategy, found.interrupts, found.downtime) == ("none", True, upgrades.PICKER_SECONDS)


def test_what_restarts_nothing_interrupts_nothing() -> None:
    assert not plan(release(restarted=[])).interrupts
    found = plan(release("none"))
    assert not found.changed
    assert upgrades.screen(found) == ["nothing to upgrade: everything is as wanted"]


def test_without_a_release_in_order_there_is_no_way_back() -> None:
    assert plan().returnable
    assert not plan(previous=[]).returnable
    assert plan(release("install", []), previous=[]).returnable


def test_start_times_come_from_the_pods_that_run() -> None:
    pod = {
        "metadata": {"labels": {"app": "ms", "pod-template-hash": "x"}},
        "status": {
            "startTime": "2026-11-27T10:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-27T10:02:30Z"}],
        },
    }
    container = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    deployment = {
        "metadata": {"name": MS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "ms"}},
            "template": {"spec": {"containers": [container]}},
        },
    }
    assert upgrades.servers_of([deployment], [pod]) == [Server(MS, 1, 1, 150.0)]
    pod["status"]["conditions"][0]["status"] = "False"  # type: ignore[index]
    assert upgrades.servers_of([deployment], [pod]) == [Server(MS, 1, 1, None)]
    assert plan().downtime == 42.0


def deployment(replicas: int, image: str, label: str = "a") -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {MS}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {label}}}}}
  template: {{spec: {{containers: [{{image: {image}}}]}}}}
"""


def test_only_another_template_restarts_pods() -> None:
    assert restarts(deployment(1, "x"), deployment(3, "x"), "llm-d") == []
    assert restarts(deployment(1, "x"), deployment(1, "y"), "llm-d") == [MS]
    assert restarts(deployment(1, "x"), deployment(1, "x", "b"), "llm-d") == [MS]
    assert restarts(deployment(1, "x"), "", "llm-d") == [MS]
    assert restarts("", deployment(1, "x"), "llm-d") == []


def test_a_release_is_remembered_in_the_form_in_which_it_is_given_back() -> None:
    wanted = Release("ms-pattern1", "llm-d-modelservice", "v0.4.9", "llm-d", {"a": 2}, ("infra-pattern1",), "https://r")
    there = ReleaseState("ms-pattern1", "llm-d", "deployed", 3, "llm-d-modelservice-v0.3.17", values={"a": 1})
    found = as_it_was(wanted, there)
    assert (found["chart"], found["version"], found["values"]) == ("llm-d-modelservice", "v0.3.17", {"a": 1})
    again = Release.from_params(found, "")
    assert (again.name, again.namespace, again.needs) == ("ms-pattern1", "llm-d", ("infra-pattern1",))
