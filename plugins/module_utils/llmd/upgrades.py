# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an upgrade goes: what differs, which pods are replaced, in which order, what that costs and interrupts. Pure.

A Deployment's own strategy (25 % surge, nothing unavailable of one) wants a second GPU for every change, waits for ever
where there is none, and makes an autoscaler buy a node for it. So the order is chosen from the GPUs that are free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.llmd.capacity import GpuNode, gpus_asked

Json = dict[str, Any]

STRATEGIES = ("recreate", "one_at_a_time", "surge")
# What each is in a Deployment; None removes a field.
BODIES: dict[str, Json] = {
    "recreate": {"type": "Recreate", "rollingUpdate": None},
    "one_at_a_time": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
}
PICKER_SECONDS = 5.0  # a picker that is replaced refuses requests for about as long


@dataclass(frozen=True)
class Server:
    """A Deployment of model servers: replicas, GPUs of a pod, seconds that its pods took to become ready."""

    name: str
    replicas: int
    gpus: int
    start_seconds: float | None = None


@dataclass
class UpgradePlan:
    """strategy: one of STRATEGIES, ``replace`` (the release is made anew) or ``none`` (no model server restarts)."""

    changed: bool
    strategy: str
    why: str
    interrupts: bool
    downtime: float | None = 0.0
    extra_nodes: int = 0
    free_gpus: int = 0
    node_cost: float | None = None
    differences: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    returnable: bool = True

    def as_result(self) -> Json:
        return {
            "changed": self.changed,
            "strategy": self.strategy,
            "why": self.why,
            "interrupts": self.interrupts,
            "downtime_seconds": None if self.downtime is None else round(self.downtime, 1),
            "extra_nodes": self.extra_nodes,
            "free_gpus": self.free_gpus,
            "node_cost": self.node_cost,
            "differences": self.differences,
            "servers": self.servers,
            "returnable": self.returnable,
        }


def servers_of(deployments: Sequence[Json], pods: Sequence[Json]) -> list[Server]:
    """The Deployments as the plan needs them; start times from their pods."""
    found = []
    for item in deployments:
        spec = item.get("spec") or {}
        labels = ((spec.get("selector") or {}).get("matchLabels") or {}).items()
        own = [pod for pod in pods if labels <= ((pod.get("metadata") or {}).get("labels") or {}).items()]
        times = [seconds for pod in own if (seconds := start_seconds(pod)) is not None]
        replicas = 1 if spec.get("replicas") is None else int(spec["replicas"])
        gpus = gpus_asked((spec.get("template") or {}).get("spec") or {})
        found.append(Server(str(item["metadata"]["name"]), replicas, gpus, max(times, default=None)))
    return found


def start_seconds(pod: Json) -> float | None:
    """From a pod's start on its node to Ready; None where it is not ready."""
    ready = of_object(pod, "Ready")
    begun = str((pod.get("status") or {}).get("startTime") or "")
    since = next(
        (
            str(entry.get("lastTransitionTime") or "")
            for entry in (pod.get("status") or {}).get("conditions") or []
            if entry.get("type") == "Ready"
        ),
        "",
    )
    if not ready.true or not begun or not since:
        return None
    return max(0.0, (_moment(since) - _moment(begun)).total_seconds())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def plan(
    releases: Sequence[Json],
    previous: Sequence[Json],
    servers: Sequence[Server],
    nodes: Sequence[GpuNode],
    *,
    wanted: str = "auto",
    drain: float = 0.0,
    node_cost: float | None = None,
) -> UpgradePlan:
    """The plan for what M(helm_releases) found to be different. ``wanted``: auto, or a strategy by name.

    drain: seconds that a model server gets to finish its requests. Raises ConfigurationError UPGRADE_STRATEGY.
    """
    changed = [entry for entry in releases if entry["changed"]]
    names = {str(entry["name"]) for entry in previous}
    known = [server for server in servers if server.replicas]
    restarted = {name for entry in changed for name in entry.get("restarts") or []}
    affected = [server for server in known if server.name in restarted]
    free = sum(node.free for node in nodes)
    result = UpgradePlan(
        changed=bool(changed),
        strategy="none",
        why="no model server is replaced",
        interrupts=False,
        free_gpus=free,
        node_cost=node_cost,
        differences=[f"{entry['name']}: {reason}" for entry in changed for reason in entry["reasons"]],
        servers=[server.name for server in affected],
        returnable=all(entry["name"] in names or entry["action"] == "install" for entry in changed),
    )
    if not changed:
        result.why = "everything is as wanted"
        return result
    if affected:
        _choose(result, affected, nodes, any(entry["action"] == "replace" for entry in changed), wanted, drain)
    elif restarted - {server.name for server in known}:
        result.why = f"{', '.join(sorted(restarted))} is replaced; requests are refused until it is back"
        result.interrupts, result.downtime = True, PICKER_SECONDS
    return result


def _choose(
    result: UpgradePlan, affected: Sequence[Server], nodes: Sequence[GpuNode], replaced: bool, wanted: str, drain: float
) -> None:
    """The order in which the model servers' pods are replaced."""
    room = all(_fits(server, nodes) for server in affected)
    alone = all(server.replicas == 1 for server in affected)
    starts = [server.start_seconds for server in affected]
    start = None if None in starts else max(float(seconds or 0) for seconds in starts)
    if replaced:
        result.strategy, result.interrupts = "replace", True
        result.why = "a label that selects the pods changes: the release goes and comes anew"
        result.downtime = start
        return
    if wanted == "auto":
        result.strategy = "surge" if room else "recreate" if alone else "one_at_a_time"
    elif wanted in STRATEGIES:
        result.strategy = wanted
    else:
        raise ConfigurationError(
            f"{wanted!r} is no way to upgrade.",
            code="UPGRADE_STRATEGY",
            remedy=f"Set upgrade_strategy to auto or one of {', '.join(STRATEGIES)}.",
        )
    if result.strategy == "surge":
        result.interrupts, result.downtime = False, 0.0
        result.why = f"{result.free_gpus} GPUs are free: the new pod comes before the old one goes"
        if not room:
            result.extra_nodes = sum(server.gpus > 0 for server in affected)
            result.why = "no GPU is free: the autoscaler has to buy a node for the new pod"
        return
    result.interrupts = result.strategy == "recreate" or alone
    result.downtime = start if result.interrupts else 0.0
    result.why = (
        "no GPU is free for a second pod: the old one finishes its requests and goes, then the new one comes"
        if result.interrupts
        else f"no GPU is free: one of the pods after the other, each finishing its requests first (up to {drain:.0f} s)"
    )


def _fits(server: Server, nodes: Sequence[GpuNode]) -> bool:
    """Whether one more pod finds its GPUs on one node."""
    return not server.gpus or any(node.free >= server.gpus for node in nodes)


def screen(found: UpgradePlan) -> list[str]:
    """The plan for a person."""
    if not found.changed:
        return ["nothing to upgrade: everything is as wanted"]
    lines = ["what differs"]
    lines += [f"  {text}" for text in found.differences]
    lines.append(f"strategy    {found.strategy}: {found.why}")
    down = "unknown" if found.downtime is None else f"about {math.ceil(found.downtime)} s"
    lines.append(f"downtime    {down if found.interrupts else 'none expected'}")
    if found.extra_nodes:
        price = (
            "" if found.node_cost is None else f", {found.node_cost:.2f} USD an hour until it is idle for 10 minutes"
        )
        lines.append(f"cost        {found.extra_nodes} GPU node more{price}")
    else:
        lines.append("cost        no node more")
    if not found.returnable:
        lines.append("rollback    not by itself: a release was not in order before")
    return lines
