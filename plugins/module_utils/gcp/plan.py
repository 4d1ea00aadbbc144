# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run will ask of a project, as the preflight judges it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMPUTE = "compute.googleapis.com"
CONTAINER = "container.googleapis.com"
IAM = "iam.googleapis.com"
BILLING = "cloudbilling.googleapis.com"
RESOURCE_MANAGER = "cloudresourcemanager.googleapis.com"
DEFAULT_DISK_GB = 100
DEFAULT_DISK = "pd-balanced"


@dataclass(frozen=True)
class NodePlan:
    """Nodes of one pool that the run will ask for. Without a machine type only the GPUs are looked at.

    ``count`` is of all zones together. ``zones`` empty: the plan's. ``fallbacks``: what is taken in its place.
    """

    machine_type: str
    count: int
    accelerator: str = ""
    accelerators_each: int = 0
    spot: bool = False
    disk_type: str = DEFAULT_DISK
    disk_gb: int = DEFAULT_DISK_GB
    pool: str = ""
    zones: tuple[str, ...] = ()
    fallbacks: tuple[NodePlan, ...] = ()

    def places(self, zone: str) -> tuple[str, ...]:
        """Zones of the nodes, where the plan's is ``zone``."""
        return self.zones or ((zone,) if zone else ())


@dataclass(frozen=True)
class Plan:
    """What the run will need. Empty: not checked.

    ``private_nodes``: they have no external addresses. ``static_addresses``: that will be reserved.
    ``service_account``: of the nodes; a name is one that is made, an address one that must be there.
    """

    region: str
    zone: str
    network: str
    subnetwork: str = ""
    services: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    later_permissions: tuple[str, ...] = ()
    nodes: tuple[NodePlan, ...] = ()
    proxy_range: str = ""
    proxy_name: str = ""
    cluster: str = ""
    gateway_class: str = ""
    release_channel: str = ""
    minimum_version: str = ""
    private_nodes: bool = False
    static_addresses: int = 0
    service_account: str = ""


def node_plans(pools: Iterable[Mapping[str, Any]]) -> tuple[NodePlan, ...]:
    """Nodes that pools (in gke_cluster's words) start with: as asked, else the autoscaler's minimum, else one."""
    plans = [_node_plan(pool) for pool in pools]
    return tuple(plan for plan in plans if plan.count > 0)


def _node_plan(pool: Mapping[str, Any]) -> NodePlan:
    accelerator = pool.get("accelerator") or {}
    each = int(accelerator.get("count") or 0) if accelerator else 0
    count = pool.get("node_count")
    if count is None:
        count = (pool.get("autoscaling") or {}).get("min") or 1
    zones = tuple(str(zone) for zone in pool.get("locations") or ())
    plan = NodePlan(
        machine_type=pool.get("machine_type") or "",
        count=int(count) * max(1, len(zones)),
        accelerator=accelerator.get("type", "") if each else "",
        accelerators_each=each,
        spot=bool(pool.get("spot")),
        disk_type=pool.get("disk_type") or DEFAULT_DISK,
        disk_gb=int(pool.get("disk_size_gb") or DEFAULT_DISK_GB),
        pool=str(pool.get("name") or ""),
        zones=zones,
    )
    fallbacks = tuple(_fallback(plan, int(count), fallback) for fallback in pool.get("fallbacks") or ())
    return dataclasses.replace(plan, fallbacks=fallbacks)


def _fallback(plan: NodePlan, each_zone: int, fallback: Mapping[str, Any]) -> NodePlan:
    """The same pool as one of its fallbacks has it; what that does not name stays."""
    zones = (str(fallback["zone"]),) if fallback.get("zone") else plan.zones
    return dataclasses.replace(
        plan,
        machine_type=fallback.get("machine_type") or plan.machine_type,
        count=each_zone * max(1, len(zones)),
        accelerator=str(fallback.get("type") or plan.accelerator),
        accelerators_each=int(fallback.get("count") or 1) if fallback.get("type") else plan.accelerators_each,
        spot=plan.spot if fallback.get("spot") is None else bool(fallback["spot"]),
        zones=zones,
    )
