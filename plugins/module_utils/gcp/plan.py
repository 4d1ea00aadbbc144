# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will ask of a project, as the preflight judges it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMPUTE = "compute.googleapis.com"
CONTAINER = "container.googleapis.com"
BILLING = "cloudbilling.googleapis.com"
RESOURCE_MANAGER = "cloudresourcemanager.googleapis.com"
DEFAULT_DISK_GB = 100
DEFAULT_DISK = "pd-balanced"


@dataclass(frozen=True)
class NodePlan:
    """Nodes of one pool that the run will ask for. Without a machine type only the GPUs are looked at."""

    machine_type: str
    count: int
    accelerator: str = ""
    accelerators_each: int = 0
    spot: bool = False
    disk_type: str = DEFAULT_DISK
    disk_gb: int = DEFAULT_DISK_GB


@dataclass(frozen=True)
class Plan:
    """What the run will need. Empty: not checked."""

    region: str
    zone: str
    network: str
    subnetwork: str = ""
    services: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    nodes: tuple[NodePlan, ...] = ()
    proxy_range: str = ""
    proxy_name: str = ""
    cluster: str = ""
    gateway_class: str = ""
    release_channel: str = ""
    minimum_version: str = ""


def node_plans(pools: Iterable[Mapping[str, Any]]) -> tuple[NodePlan, ...]:
    """Nodes that pools (in gke_cluster's words) start with: as asked, else the autoscaler's minimum, else one."""
    plans = []
    for pool in pools:
        accelerator = pool.get("accelerator") or {}
        each = int(accelerator.get("count") or 0) if accelerator else 0
        count = pool.get("node_count")
        if count is None:
            count = (pool.get("autoscaling") or {}).get("min") or 1
        plans.append(
            NodePlan(
                machine_type=pool.get("machine_type") or "",
                count=int(count),
                accelerator=accelerator.get("type", "") if each else "",
                accelerators_each=each,
                spot=bool(pool.get("spot")),
                disk_type=pool.get("disk_type") or DEFAULT_DISK,
                disk_gb=int(pool.get("disk_size_gb") or DEFAULT_DISK_GB),
            )
        )
    return tuple(plan for plan in plans if plan.count > 0)
