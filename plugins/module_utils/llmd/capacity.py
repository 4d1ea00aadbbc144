# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is there room for N replicas? GPUs that are there and free, nodes that the pool may add, quota for those. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.quotas import Headroom

GPU = "nvidia.com/gpu"
POOL_LABEL = "cloud.google.com/gke-nodepool"

Json = dict[str, Any]


def gpus_asked(spec: Json) -> int:
    """GPUs that a pod spec asks for."""
    total = 0
    for container in spec.get("containers") or []:
        resources = container.get("resources") or {}
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        total += int(amounts.get(GPU) or 0)
    return total


@dataclass(frozen=True)
class GpuNode:
    """One node: GPUs that it offers, GPUs held by the deployment's own model servers, and by others."""

    name: str
    pool: str
    total: int
    own: int = 0
    others: int = 0

    @property
    def free(self) -> int:
        return max(0, self.total - self.own - self.others)


def gpu_nodes(nodes: Iterable[Json], pods: Iterable[Json], own: dict[str, str], namespace: str) -> list[GpuNode]:
    """The nodes with GPUs. ``own``: labels of the deployment's model servers in ``namespace``."""
    held: dict[str, list[int]] = {}
    for pod in pods:
        place = str((pod.get("spec") or {}).get("nodeName") or "")
        if not place or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        metadata = pod.get("metadata") or {}
        labels = metadata.get("labels") or {}
        ours = metadata.get("namespace") == namespace and all(labels.get(key) == value for key, value in own.items())
        held.setdefault(place, [0, 0])[0 if ours else 1] += gpus_asked(pod["spec"])
    found = []
    for node in nodes:
        metadata = node["metadata"]
        total = int(((node.get("status") or {}).get("allocatable") or {}).get(GPU) or 0)
        mine, others = held.get(metadata["name"], [0, 0])
        if total:
            pool = str((metadata.get("labels") or {}).get(POOL_LABEL, ""))
            found.append(GpuNode(str(metadata["name"]), pool, total, mine, others))
    return found


@dataclass(frozen=True)
class PoolRoom:
    """The GPU pool: nodes in each zone, autoscaler limits in each zone (None: off), zones, GPUs of a node."""

    name: str
    size: int
    limits: tuple[int, int] | None
    zones: int
    gpus_each: int
    paused: bool = False


@dataclass(frozen=True)
class Wanted:
    """What is asked for: replicas now and then, GPUs of each."""

    now: int
    replicas: int
    gpus: int

    @property
    def direction(self) -> str:
        return "out" if self.replicas > self.now else "in" if self.replicas < self.now else "none"


@dataclass
class CapacityPlan:
    """What scaling takes. ``pool_max``: the limit (in each zone) that the autoscaler needs; ``raises``: it is new.

    ``resize``: nodes in each zone that a pool without autoscaler must get.
    """

    wanted: Wanted
    nodes_now: int
    nodes_needed: int
    free_gpus: int
    pool_max_now: int | None
    pool_max: int | None
    quotas: list[Json] = field(default_factory=list)

    @property
    def new_nodes(self) -> int:
        return max(0, self.nodes_needed - self.nodes_now)

    @property
    def raises(self) -> bool:
        return self.pool_max is not None and self.pool_max_now is not None and self.pool_max > self.pool_max_now

    def as_result(self) -> Json:
        return {
            "direction": self.wanted.direction,
            "replicas": {"now": self.wanted.now, "wanted": self.wanted.replicas},
            "gpus": {"each": self.wanted.gpus, "free": self.free_gpus},
            "nodes": {"now": self.nodes_now, "needed": self.nodes_needed, "new": self.new_nodes},
            "pool_max": {"now": self.pool_max_now, "wanted": self.pool_max},
            "quotas": self.quotas,
        }


def plan(wanted: Wanted, pool: PoolRoom, nodes: Sequence[GpuNode]) -> CapacityPlan:
    """How many nodes N replicas need. Raises LlmdError where no number of nodes would do.

    Own model servers count as movable: what they hold is theirs to hold again.
    """
    if wanted.replicas < 0:
        raise ConfigurationError(
            f"{wanted.replicas} replicas cannot be had.", code="SCALE_INVALID", remedy="Ask for 0 or more."
        )
    if pool.paused:
        raise LlmdError(
            "The deployment is paused; its model servers have no nodes.",
            code="SCALE_PAUSED",
            where=f"node pool {pool.name}",
            remedy="Run playbooks/resume.yml first; it gives back what was.",
        )
    each = pool.gpus_each // wanted.gpus if wanted.gpus else 0
    if wanted.replicas and wanted.gpus and not each:
        raise ConfigurationError(
            f"A replica asks for {wanted.gpus} GPUs, a node of {pool.name} has {pool.gpus_each}.",
            code="SCALE_GPUS_PER_NODE",
            where=f"node pool {pool.name}",
            remedy="Take a pool whose nodes have as many GPUs (llmd_gpu.count with a larger machine).",
        )
    now = pool.size * pool.zones
    mine = [node for node in nodes if node.pool == pool.name]
    slots = sum((node.total - node.others) // wanted.gpus for node in mine) if wanted.gpus else wanted.replicas
    slots += each * max(0, now - len(mine))  # nodes that are on their way
    missing = max(0, wanted.replicas - slots)
    extra = math.ceil(missing / each) if missing else 0
    needed = now + extra if extra else min(now, _nodes_for(wanted, each))
    limit = None if pool.limits is None else pool.limits[1]
    pool_max = limit if limit is None else max(limit, math.ceil((now + extra) / pool.zones) if extra else limit)
    return CapacityPlan(wanted, now, needed, sum(node.free for node in mine), limit, pool_max)


def _nodes_for(wanted: Wanted, each: int) -> int:
    return math.ceil(wanted.replicas / each) if each else 0


def refuse(
    found: CapacityPlan,
    pool: PoolRoom,
    headroom: Sequence[Headroom],
    zones_without: Sequence[str],
    *,
    raise_max: bool,
    project: str,
) -> None:
    """Say all that stands in the way, under the code of the first. Raises LlmdError; nothing was changed."""
    if not found.new_nodes:
        return
    reasons: list[tuple[str, str, str]] = []
    if pool.limits is None:
        reasons.append(
            (
                "SCALE_POOL_FIXED",
                f"node pool {pool.name} has {found.nodes_now} nodes and no autoscaler; {found.nodes_needed} are needed",
                "Give the pool an autoscaler (llmd_gpu.min, llmd_gpu.max; playbooks/pattern1.yml) or more nodes.",
            )
        )
    elif found.raises and not raise_max:
        reasons.append(
            (
                "SCALE_POOL_MAX",
                f"node pool {pool.name} may have {found.pool_max_now} nodes in a zone, {found.pool_max} are needed",
                f"Set llmd_gpu.max to {found.pool_max}, or allow it for now: -e scale_raise_pool_max=true.",
            )
        )
    for zone in zones_without:
        reasons.append(
            (
                "SCALE_NOT_OFFERED",
                f"zone {zone} does not offer what the pool's nodes are made of (any more)",
                "Take another zone: llmd_gpu.fallbacks, or a deployment elsewhere.",
            )
        )
    for item in headroom:
        if item.enough is False:
            link = f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
            remedy = f"Ask for more {item.metric} at {link}, or for fewer replicas."
            reasons.append(("SCALE_QUOTA", f"quota {item.metric}: {item.detail}", remedy))
    if reasons:
        raise LlmdError(
            f"There is no room for {found.wanted.replicas} replicas: {found.new_nodes} more nodes are needed.",
            code=reasons[0][0],
            where=f"node pool {pool.name}",
            why="; ".join(reason[1] for reason in reasons),
            remedy=" ".join(dict.fromkeys(reason[2] for reason in reasons)),
            evidence={**found.as_result(), "codes": [reason[0] for reason in reasons]},
        )


def screen(found: CapacityPlan, pool: PoolRoom) -> list[str]:
    """The plan for a person."""
    wanted = found.wanted
    lines = [
        f"replicas    {wanted.now} now, {wanted.replicas} wanted ({wanted.gpus} GPU each)",
        f"GPUs        {found.free_gpus} free on the {found.nodes_now} nodes of {pool.name}",
    ]
    if found.new_nodes:
        lines.append(f"nodes       {found.new_nodes} more, bought by the autoscaler")
    elif found.nodes_needed < found.nodes_now:
        lines.append(f"nodes       {found.nodes_now - found.nodes_needed} fewer, once the autoscaler finds them idle")
    if found.raises:
        lines.append(f"pool max    {found.pool_max_now} -> {found.pool_max} in each zone")
    return lines
